package lab

import (
	"errors"
	"fmt"
	"strings"
)

// UnavailableError says that a server could not be had in any way.
type UnavailableError struct {
	Kind  Kind
	Tried []string // each way, with the reason why it did not lead to a server
	Hint  string   // the next step for a person
}

func (e *UnavailableError) Error() string {
	var b strings.Builder
	fmt.Fprintf(&b, "no %s server can be had", e.Kind.facts().title)
	for _, t := range e.Tried {
		fmt.Fprintf(&b, "\n  tried: %s", strings.ReplaceAll(t, "\n", "\n    "))
	}
	fmt.Fprintf(&b, "\n  %s", e.Hint)
	return b.String()
}

// ErrNotOurs is returned for signals to a server that was given by address.
var ErrNotOurs = errors.New("this server was given by address, the lab did not start it and will not signal it")

// Missing is the one message for a machine on which servers of these kinds
// cannot be had: what to install, or which addresses to give. Without kinds it
// speaks of MySQL and Redis, which `make demo` wants.
func Missing(kinds ...Kind) string {
	if len(kinds) == 0 {
		kinds = []Kind{MySQL, Redis}
	}
	var install, env []string
	for _, k := range kinds {
		install = append(install, k.facts().install)
		if e := k.facts().env; e != "" {
			env = append(env, e)
		}
	}
	if len(env) == 0 {
		return "Install " + strings.Join(install, " and ") + "."
	}
	return "Install " + strings.Join(install, " and ") +
		"; or, on Debian and Ubuntu, let this machine reach its own apt mirror (the lab then fetches them by itself)" +
		"; or start them with `docker compose up -d`; then, for servers that run already, set " +
		strings.Join(env, " and ") + "."
}
