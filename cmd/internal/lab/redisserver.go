package lab

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

// redisServeArgs is the command line of a Redis or Valkey. The append-only file
// is always kept: it is written before a reply is sent, so that a server that was
// killed has its data again; durable or not is only whether it is flushed.
func redisServeArgs(dir string, port int, fast bool) []string {
	fsync := "everysec"
	if fast {
		fsync = "no"
	}
	return []string{
		"--bind", "127.0.0.1", "--port", strconv.Itoa(port), "--protected-mode", "no",
		"--daemonize", "no", "--dir", filepath.Join(dir, "data"),
		"--save", "", "--appendonly", "yes", "--appendfsync", fsync,
		"--maxmemory-policy", "noeviction", "--maxclients", "2000",
		"--enable-debug-command", "local", // tests stall a server with DEBUG SLEEP
	}
}

// redisVersion asks the server at addr what it is; an error while it loads.
func redisVersion(ctx context.Context, addr string) (Kind, Version, error) {
	info, err := redisInfo(ctx, addr)
	if err != nil {
		return "", Version{}, err
	}
	// Valkey reports a redis_version too, for clients that ask for one.
	for _, c := range []struct {
		field string
		kind  Kind
	}{{"valkey_version", Valkey}, {"redis_version", Redis}} {
		if v, ok := ParseVersion(info[c.field]); ok {
			if info["loading"] == "1" {
				return c.kind, v, fmt.Errorf("%s is still loading its data", addr)
			}
			return c.kind, v, nil
		}
	}
	return "", Version{}, fmt.Errorf("%s answers INFO without a version: is it a Redis?", addr)
}

// redisInfo speaks just enough of the protocol to need no client, whose pools and
// goroutines would outlive the question.
func redisInfo(ctx context.Context, addr string) (map[string]string, error) {
	const most = 64 << 10        // bytes of an answer; INFO of these sections is 2 KB
	const patience = time.Second // a paused server accepts and says nothing
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	conn, err := (&net.Dialer{}).DialContext(ctx, "tcp", addr)
	if err != nil {
		return nil, err
	}
	defer conn.Close()
	deadline, _ := ctx.Deadline()
	if err := conn.SetDeadline(deadline); err != nil {
		return nil, err
	}
	info := map[string]string{}
	r := bufio.NewReader(io.LimitReader(conn, most))
	for _, section := range []string{"server", "persistence"} {
		if _, err := fmt.Fprintf(conn, "INFO %s\r\n", section); err != nil {
			return nil, err
		}
		head, err := r.ReadString('\n')
		if err != nil {
			return nil, err
		}
		size, err := strconv.Atoi(strings.TrimSpace(strings.TrimPrefix(head, "$")))
		if !strings.HasPrefix(head, "$") || err != nil || size < 0 || size > most {
			return nil, fmt.Errorf("%s answers INFO with %q: is it a Redis that wants no password?", addr, clip(head, 80))
		}
		body := make([]byte, size+len("\r\n"))
		if _, err := io.ReadFull(r, body); err != nil {
			return nil, err
		}
		for line := range strings.Lines(string(body)) {
			if name, value, ok := strings.Cut(strings.TrimSpace(line), ":"); ok {
				info[name] = value
			}
		}
	}
	return info, nil
}
