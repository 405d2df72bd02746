// Package test proves the packages on a real systemd: a Debian of its own in a
// container, in which they are installed, used, upgraded and removed. It proves
// the image with a podman of its own. The proofs need root and run with
// make package-test.
package test
