package main

import (
	"encoding/json"
	"fmt"
	"io"

	"github.com/spf13/cobra"

	"collectord/collectord/auth"
)

func tokenCommand() *cobra.Command {
	c := &cobra.Command{Use: "token", Short: "Make bearer tokens for clients", GroupID: groupDaemon, Annotations: map[string]string{
		adviceOnOtherWords: "a token is a line of http.tokens_file; list, change or remove it there, and reload",
	}}
	var rate int
	var asJSON bool
	newCommand := &cobra.Command{
		Use:   "new NAME",
		Short: "Print a new token once, and the line for http.tokens_file that contains its hash",
		Long: `Print a new bearer token, and below it the line for http.tokens_file that contains its hash. The token is not stored
anywhere: give it to the client now. Records that were sent with the token have NAME as their client.`,
		Example: `  collectord token new ward-3
  collectord token new ward-3 --rate 500 --json`,
		Args: requireArgs(1, 1, "the name of a client"),
		RunE: func(cmd *cobra.Command, args []string) error {
			name := args[0]
			if !auth.ValidClient(name) {
				return fmt.Errorf("%q is not a name of 1 to 63 letters, digits, dots, underscores and hyphens (. and .. are not allowed)", name)
			}
			if rate < 0 || rate > auth.MaxTokenRate {
				return fmt.Errorf("a rate is a number of usages a second from 1 to %d, or 0 for no limit", auth.MaxTokenRate)
			}
			token, line := auth.NewToken(name, rate)
			if asJSON {
				return json.NewEncoder(cmd.OutOrStdout()).Encode(map[string]string{"name": name, "token": token, "line": line})
			}
			// Only the token and its line go to standard output, for programs.
			writef(cmd.ErrOrStderr(), "The token, which can't be shown again, and the line for http.tokens_file:\n")
			_, err := io.WriteString(cmd.OutOrStdout(), token+"\n"+line+"\n")
			return err
		},
	}
	newCommand.Flags().IntVar(&rate, "rate", 0, "usages a second that the client may send; 0: no limit of its own")
	newCommand.Flags().BoolVar(&asJSON, "json", false, "one JSON object, for programs")
	c.AddCommand(newCommand)
	return c
}
