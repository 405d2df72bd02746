package bucket

import (
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"

	"collectord/shipper/bucket/s3test"
)

func TestHTMLInErrorsBecomesText(t *testing.T) {
	t.Parallel()
	const nginx = "<html>\r\n<head><title>502 Bad Gateway</title></head>\r\n<body>\r\n<center><h1>502 Bad Gateway</h1></center>\r\n<hr><center>nginx/1.22.1</center>\r\n</body>\r\n</html>\r\n"
	const squid = `<!DOCTYPE html PUBLIC "-//W3C//DTD HTML 4.01//EN"><html><head><style type="text/css"> body { color: red } </style><title>ERROR: Access Denied</title>` +
		"<script>alert(1)</script></head><body><h1>ERROR</h1><p>Access &lt;Denied&gt;\x1b[31m by policy</p></body></html>"
	for name, c := range map[string]struct {
		status int
		page   string
		want   []string
	}{
		"502 of nginx": {502, nginx, []string{"502 Bad Gateway. 502 Bad Gateway nginx/1.22.1"}},
		"503 of squid": {503, squid, []string{"ERROR: Access Denied. ERROR Access <Denied>"}},
		"403 of squid": {403, squid, []string{"ERROR: Access Denied. ERROR Access <Denied>", "the answer is not S3's", "status 403"}},
		"200 of a captive portal": {
			200, "<html><title>Welcome</title><body>" + strings.Repeat("Log in. ", 1000) + "</body></html>",
			[]string{"Welcome. Log in. Log in.", "…"},
		},
	} {
		f, s := newFake(t)
		f.Behave(s3test.Behaviour{Fault: func(w http.ResponseWriter, _ *http.Request) bool {
			w.Header().Set("Content-Type", "text/html")
			w.WriteHeader(c.status)
			io.WriteString(w, c.page)
			return true
		}})
		err := fmt.Sprint(s.Put(t.Context(), testObject("a", "x")))
		for _, want := range c.want {
			if !strings.Contains(err, want) {
				t.Errorf("%s: %s", name, err)
			}
		}
		for _, html := range []string{"<html", "<h1", "alert", "color", "</", "&lt;", "\x1b"} {
			if strings.Contains(err, html) || len(err) > 1000 {
				t.Errorf("%s: the error contains HTML, or is too long: %s", name, err)
			}
		}
	}
}
