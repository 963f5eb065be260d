package admin

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"

	"connectrpc.com/connect"

	"github.com/crossfade-proxy/crossfade/backends"
	"github.com/crossfade-proxy/crossfade/killswitch"
)

// maxKillBody bounds the body of a kill by HTTP, in bytes: why has 500 at most.
const maxKillBody = 16 << 10

// KillBody is what a kill by HTTP says: POST /v1/kill/<pod>. Only Why is needed.
type KillBody struct {
	Why string `json:"why"`
	// From is live or shadow: the stage that the kill is to leave; FromEpoch the epoch under which that was read.
	From      string `json:"from"`
	FromEpoch uint64 `json:"from_epoch"`
	DryRun    bool   `json:"dry_run"`
}

// KillProblem is what it answers when the kill was not made. Code is Connect's name of it.
type KillProblem struct {
	Code  string `json:"code"`
	Error string `json:"error"`
	// Result is how far it came: what was read, and how long each step took.
	Result killswitch.KillResult `json:"result"`
}

// kill makes a kill in the name of the caller's token.
func kill(ctx context.Context, b Backend, pod, from string, q killswitch.KillRequest) (res killswitch.KillResult, err error) {
	if from != "" {
		if q.Expect, err = backends.ParseStage(from); err != nil {
			return res, err
		}
	}
	q.Pod, q.Who = backends.Pod(pod), who(ctx)
	return b.Kill(ctx, q)
}

// killHandler is the kill switch for whoever has nothing but a client of HTTP: one POST with a body of JSON. It is as long under
// way as a kill, also when the caller has hung up.
func killHandler(b Backend) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := readKill(r.Body)
		var res killswitch.KillResult
		if err == nil {
			ctx, cancel := context.WithTimeout(context.WithoutCancel(r.Context()), killTimeout+killswitch.MaxKillWait)
			defer cancel()
			res, err = kill(ctx, b, r.PathValue("pod"), body.From, killswitch.KillRequest{Why: body.Why, ExpectEpoch: body.FromEpoch, DryRun: body.DryRun})
		}
		var answer any = res
		status := http.StatusOK
		if err != nil {
			code := connect.CodeOf(problem(err))
			status, answer = httpStatus(code), KillProblem{Code: code.String(), Error: err.Error(), Result: res}
		}
		w.Header().Set("Content-Type", "application/json")
		w.WriteHeader(status)
		e := json.NewEncoder(w)
		e.SetIndent("", "  ")
		_ = e.Encode(answer) // the caller has gone, and the kill is made
	})
}

func readKill(r io.Reader) (b KillBody, err error) {
	d := json.NewDecoder(io.LimitReader(r, maxKillBody))
	d.DisallowUnknownFields()
	if err = d.Decode(&b); err == nil {
		return b, nil
	}
	if errors.Is(err, io.EOF) {
		err = errors.New("no body")
	}
	return b, &backends.FieldError{Field: "body", Value: fmt.Sprintf("not readable (%.200s)", err), Bound: `JSON of why, from, from_epoch and dry_run`, Next: `send at least {"why": "…"}`}
}

// httpStatus gives the code of HTTP that clients without Connect know.
func httpStatus(c connect.Code) int {
	switch c {
	case connect.CodeInvalidArgument:
		return http.StatusBadRequest
	case connect.CodeFailedPrecondition, connect.CodeAborted:
		return http.StatusConflict
	case connect.CodeUnavailable:
		return http.StatusServiceUnavailable
	case connect.CodeDeadlineExceeded:
		return http.StatusGatewayTimeout
	default:
		return http.StatusInternalServerError
	}
}
