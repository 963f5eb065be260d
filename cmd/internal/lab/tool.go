package lab

import (
	"context"
	"fmt"
	"os/exec"
	"path/filepath"
)

// Tool is the command that runs a program which comes with the server's packages (redis-cli,
// redis-benchmark), in the way in which the server itself was started. For a server that was given
// by address it is looked for on the machine.
func (s *Server) Tool(ctx context.Context, name string, args ...string) (*exec.Cmd, error) {
	if s.in.Bin != "" {
		in := s.in
		in.Bin = filepath.Join(filepath.Dir(s.in.Bin), name)
		if executable(in.Bin) {
			return in.command(ctx, args...), nil
		}
	}
	bin, err := exec.LookPath(name)
	if err != nil {
		return nil, fmt.Errorf("%s is neither beside the %s server nor on the PATH: %w; %s", name, s.Kind, err, Missing(s.Kind))
	}
	return install{Bin: bin}.command(ctx, args...), nil
}
