// Package test tests the packages on a real systemd. It installs, uses, upgrades and
// removes them in a container with a minimal Debian. It tests the image with a separate
// podman. The tests need root and run with make package-test.
package test
