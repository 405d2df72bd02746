package bucket

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os/exec"
	"strings"
	"syscall"
	"time"

	"github.com/minio/minio-go/v7/pkg/credentials"
)

// keysProgramTimeout is how long the program of credential_process may take. All requests wait
// for it.
const keysProgramTimeout = 30 * time.Second

// runKeysProgram runs the program of credential_process, which prints keys as JSON. Errors contain
// nothing that it prints.
func runKeysProgram(ctx context.Context, command string, timeout time.Duration) (v credentials.Value, err error) {
	ctx, cancel := context.WithTimeoutCause(ctx, timeout, fmt.Errorf("it printed no keys within %v", timeout))
	defer cancel()
	args := strings.Fields(command)
	program := exec.CommandContext(ctx, args[0], args[1:]...)
	program.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	program.Cancel = func() error { return syscall.Kill(-program.Process.Pid, syscall.SIGKILL) } // and what it started
	program.WaitDelay = time.Second
	out, err := program.Output()
	if ctx.Err() != nil {
		err = context.Cause(ctx)
	}
	if err != nil {
		return v, fmt.Errorf("credential_process: %w", err)
	}
	var printed struct {
		AccessKeyID     string `json:"AccessKeyId"`
		SecretAccessKey string
		SessionToken    string
		Expiration      time.Time
	}
	if json.Unmarshal(out, &printed) != nil { // the error's text may contain a secret
		return v, errors.New("credential_process: it printed no JSON with keys")
	}
	return credentials.Value{
		AccessKeyID: printed.AccessKeyID, SecretAccessKey: printed.SecretAccessKey, SessionToken: printed.SessionToken,
		Expiration: printed.Expiration, SignerType: credentials.SignatureV4,
	}, nil
}
