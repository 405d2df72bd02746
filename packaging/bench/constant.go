package main

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
)

// constantServer is a server that returns a constant 201: nginx or, without nginx, a Go handler.
type constantServer struct {
	name        string
	url, secure string // secure only with a certificate
	stop        func()
}

func startConstant(dir string, pair *certificate) (c constantServer, err error) {
	plain, err := freePort()
	if err != nil {
		return c, err
	}
	secure, err := freePort()
	if err != nil {
		return c, err
	}
	c.url, c.secure = fmt.Sprintf("http://127.0.0.1:%d/", plain), fmt.Sprintf("https://127.0.0.1:%d/", secure)
	nginx, err := exec.LookPath("nginx")
	if err != nil {
		c.name = "a constant Go handler (nginx is not installed)"
		c.stop = serveConstant(plain, secure, pair)
		return c, waitFor(c.url)
	}
	c.name = "nginx, return 201"
	tls := ""
	if pair != nil {
		tls = fmt.Sprintf("listen 127.0.0.1:%d ssl; ssl_certificate %s; ssl_certificate_key %s;", secure, pair.file, pair.keyFile)
	}
	config := filepath.Join(dir, "nginx.conf")
	text := fmt.Sprintf(`daemon off; worker_processes auto; pid %s/nginx.pid; error_log stderr crit; events { worker_connections 2048; }
http { access_log off; client_body_temp_path %s/b; proxy_temp_path %s/p; fastcgi_temp_path %s/f; uwsgi_temp_path %s/u; scgi_temp_path %s/s;
server { listen 127.0.0.1:%d; %s keepalive_requests 1000000000; location / { return 201 '{"id":"01a20a8b-e3b0-749f-8de0-18106c35cab3"}'; } } }`,
		dir, dir, dir, dir, dir, dir, plain, tls)
	if err := os.WriteFile(config, []byte(text), 0o600); err != nil {
		return c, err
	}
	cmd := exec.Command(nginx, "-p", dir, "-c", config)
	cmd.Stderr = os.Stderr
	if err := cmd.Start(); err != nil {
		return c, err
	}
	c.stop = func() { cmd.Process.Signal(syscall.SIGTERM); cmd.Wait() }
	if err := waitFor(c.url); err != nil {
		c.stop()
		return c, err
	}
	return c, nil
}

// serveConstant serves the same response as nginx.
func serveConstant(plain, secure int, pair *certificate) (stop func()) {
	handler := http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(http.StatusCreated)
		io.WriteString(w, `{"id":"01a20a8b-e3b0-749f-8de0-18106c35cab3"}`)
	})
	server := &http.Server{Addr: fmt.Sprintf("127.0.0.1:%d", plain), Handler: handler}
	overTLS := &http.Server{Addr: fmt.Sprintf("127.0.0.1:%d", secure), Handler: handler}
	go server.ListenAndServe()
	if pair != nil {
		go overTLS.ListenAndServeTLS(pair.file, pair.keyFile)
	}
	return func() { _ = errors.Join(server.Close(), overTLS.Close()) }
}
