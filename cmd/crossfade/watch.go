package main

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"os"
	"time"
)

const watchEvery = time.Second

// On a terminal a page takes the place of the one before: from the top, and what is left of that is cleared.
// Nothing is cleared beforehand, so that it does not flicker.
const (
	screenTop      = "\x1b[H"
	clearLine      = "\x1b[K"
	clearBelow     = "\x1b[J"
	clearScreen    = "\x1b[2J"
	refreshHelp    = "show again every second, until interrupted"
	interruptedTip = "  (Ctrl-C ends)"
)

// watching repeats once until the context ends; a failure is shown and does not end it, unless the command
// itself was wrong. What is not a terminal gets page after page.
func watching(ctx context.Context, g *globals, once func(context.Context) error) error {
	t := time.NewTicker(watchEvery)
	defer t.Stop()
	out := g.out
	defer func() { g.out = out }()
	screen := isTerminal(out) && !g.json
	if screen {
		g.say(clearScreen)
	}
	for {
		var page bytes.Buffer
		g.out = &page
		err := once(ctx)
		switch {
		case ctx.Err() != nil:
			return nil
		case err != nil && exitCode(err) == exitUsage:
			return err
		case err != nil && g.json:
			g.tell("%v\n", err)
		case err != nil:
			g.say("%v\n", err)
		}
		if err := show(out, page.Bytes(), screen, g.json); err != nil {
			return err
		}
		select {
		case <-t.C:
		case <-ctx.Done():
			return nil
		}
	}
}

// show writes one page, in one piece.
func show(out io.Writer, page []byte, screen, plain bool) error {
	var b bytes.Buffer
	if !plain {
		head := time.Now().Format(time.TimeOnly)
		if screen {
			head = screenTop + head + interruptedTip
		}
		fmt.Fprintf(&b, "%s\n\n", head)
	}
	b.Write(page)
	text := b.Bytes()
	if screen {
		text = append(bytes.ReplaceAll(text, []byte("\n"), []byte(clearLine+"\n")), clearBelow...)
	}
	_, err := out.Write(text)
	return err
}

// isTerminal tells whether somebody may be looking.
func isTerminal(w io.Writer) bool {
	f, ok := w.(*os.File)
	if !ok {
		return false
	}
	st, err := f.Stat()
	return err == nil && st.Mode()&os.ModeCharDevice != 0
}
