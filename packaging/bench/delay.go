package main

import (
	"net"
	"strings"
	"time"
)

// delayProxy is a TCP proxy on the loopback interface that adds latency in both directions,
// like the network before a storage.
type delayProxy struct {
	listener net.Listener
	to       string
	oneWay   time.Duration
}

// delay starts a proxy for the endpoint, and returns the endpoint of the proxy.
func delay(endpoint string, roundTrip time.Duration) (proxy *delayProxy, at string, err error) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, "", err
	}
	p := &delayProxy{ln, strings.TrimPrefix(endpoint, "http://"), roundTrip / 2}
	go p.serve()
	return p, "http://" + ln.Addr().String(), nil
}

func (p *delayProxy) stop() { p.listener.Close() }

func (p *delayProxy) serve() {
	for {
		client, err := p.listener.Accept()
		if err != nil {
			return
		}
		server, err := net.Dial("tcp", p.to)
		if err != nil {
			client.Close()
			continue
		}
		go p.forward(server, client)
		go p.forward(client, server)
	}
}

// delayedData is received data, and the time to forward it.
type delayedData struct {
	bytes []byte
	due   time.Time
}

// forward forwards bytes in one direction, each after the one-way delay.
func (p *delayProxy) forward(to, from net.Conn) {
	queue := make(chan delayedData, 1024)
	go func() {
		defer to.Close()
		for h := range queue {
			time.Sleep(time.Until(h.due))
			if _, err := to.Write(h.bytes); err != nil {
				return
			}
		}
	}()
	defer close(queue)
	buf := make([]byte, 64<<10)
	for {
		n, err := from.Read(buf)
		if n > 0 {
			queue <- delayedData{append([]byte(nil), buf[:n]...), time.Now().Add(p.oneWay)}
		}
		if err != nil {
			return
		}
	}
}
