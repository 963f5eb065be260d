package proxy

import (
	"bytes"
	"crypto/rand"
	"encoding/hex"
	"fmt"
	"net"
	"text/template"

	"github.com/crossfade-proxy/crossfade/backends"
	"github.com/crossfade-proxy/crossfade/cmd/internal/lab"
)

// LabShops are the shops of the lab's two pods.
var LabShops = [2]string{"shop-one", "shop-two"}

var labConfig = template.Must(template.New("crossfade.yaml").Parse(`# Written by 'crossfade lab up': private, throw-away servers on loopback. docs/configuration.md
# describes every key. Start the proxy with: crossfade serve -c {{.Path}}
proxy_id: {{.ProxyID}}
data_dir: data
resp:
  listen: {{.RESP}}
admin:
  listen: {{.Admin}}
  tokens:
    lab: {{.Token}}
control:
  dir: control
pods:
{{- range .Pods}}
  - name: {{.Name}}
    shops: [{{.Shop}}]
    redis:
      addr: {{$.Redis}}
    mysql:
      dsn: "{{$.MySQL}}"
{{- if $.Demo}}
    gates: {shadow_p99: 10s} # the shop and its stores share this machine
{{- end}}
{{- end}}
`))

type labPod struct{ Name, Shop string }

// LabConfig renders a ready configuration for a lab: two pods that share its servers.
func LabConfig(l *lab.Lab, proxyID string) ([]byte, error) {
	return renderLab(l, proxyID, false, []labPod{{"pod-1", LabShops[0]}, {"pod-2", LabShops[1]}})
}

// DemoConfig is LabConfig for the demo's pods.
func DemoConfig(l *lab.Lab, pod1 backends.Pod, shop1 backends.Shop, pod2 backends.Pod, shop2 backends.Shop) ([]byte, error) {
	return renderLab(l, "proxy-1", true, []labPod{{string(pod1), string(shop1)}, {string(pod2), string(shop2)}})
}

func renderLab(l *lab.Lab, proxyID string, demo bool, pods []labPod) ([]byte, error) {
	sql, kv := l.Server(lab.MySQL), l.Server(lab.Redis)
	if sql == nil {
		sql = l.Server(lab.MariaDB)
	}
	if kv == nil {
		kv = l.Server(lab.Valkey)
	}
	if sql == nil || kv == nil {
		return nil, fmt.Errorf("a configuration needs a MySQL or MariaDB and a Redis or Valkey; start the lab with both kinds")
	}
	ports, err := freePorts(2)
	if err != nil {
		return nil, err
	}
	var token [16]byte
	_, _ = rand.Read(token[:]) // it never fails
	var b bytes.Buffer
	err = labConfig.Execute(&b, map[string]any{
		"Path": l.ConfigPath(), "ProxyID": proxyID, "RESP": ports[0], "Admin": ports[1], "Token": hex.EncodeToString(token[:]),
		"Redis": kv.Addr(), "MySQL": sql.DSN(l.Databases[0]),
		"Pods": pods, "Demo": demo,
	})
	return b.Bytes(), err
}

// freePorts asks the system for n different free ports on loopback.
func freePorts(n int) ([]string, error) {
	var out []string
	var lns []net.Listener
	defer func() {
		for _, ln := range lns {
			_ = ln.Close()
		}
	}()
	for range n {
		ln, err := net.Listen("tcp", "127.0.0.1:0") //nolint:noctx // loopback, at once
		if err != nil {
			return nil, err
		}
		lns = append(lns, ln)
		out = append(out, ln.Addr().String())
	}
	return out, nil
}
