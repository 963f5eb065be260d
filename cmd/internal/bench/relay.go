package bench

import (
	"context"
	"fmt"
	"io"
	"net"
	"sync"
)

// relayBuffer is what the relay reads at a time.
const relayBuffer = 16 << 10

// Relay listens on a free loopback port, prints the address, and passes the bytes of each connection on to
// a connection of its own to addr, both ways, until ctx ends. It is the least that a proxy in Go can do.
func Relay(ctx context.Context, addr string, out io.Writer) error {
	ln, err := (&net.ListenConfig{}).Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	fmt.Fprintln(out, ln.Addr())
	stop := context.AfterFunc(ctx, func() { ln.Close() })
	defer stop()
	var wg sync.WaitGroup
	defer wg.Wait()
	for {
		nc, err := ln.Accept()
		if err != nil {
			if ctx.Err() != nil {
				return nil
			}
			return err
		}
		wg.Go(func() { relayOne(ctx, nc, addr) })
	}
}

func relayOne(ctx context.Context, nc net.Conn, addr string) {
	defer nc.Close()
	to, err := (&net.Dialer{Timeout: respPatience}).DialContext(ctx, "tcp", addr)
	if err != nil {
		return // the client sees its connection closed
	}
	defer to.Close()
	stop := context.AfterFunc(ctx, func() { nc.Close(); to.Close() })
	defer stop()
	var wg sync.WaitGroup
	wg.Go(func() { pass(to, nc) })
	pass(nc, to)
	wg.Wait()
}

// pass copies until either end is gone, then ends both. A plain loop is a little faster here than
// io.Copy, which splices through a pipe.
func pass(to, from net.Conn) {
	defer from.Close()
	defer to.Close()
	b := make([]byte, relayBuffer)
	for {
		n, err := from.Read(b)
		if n > 0 {
			if _, werr := to.Write(b[:n]); werr != nil {
				return
			}
		}
		if err != nil {
			return
		}
	}
}
