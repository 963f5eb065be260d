package proxy

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"time"

	"github.com/crossfade-proxy/crossfade/backends"
	"github.com/crossfade-proxy/crossfade/backends/mysqlstore"
	"github.com/crossfade-proxy/crossfade/backends/redisstore"
	"github.com/crossfade-proxy/crossfade/cmd/internal/config"
	"github.com/crossfade-proxy/crossfade/dualwrite/respdoor"
)

// Check tells whether a proxy would start with this configuration, as far as that can be told without
// its servers and ports: it makes stores and door as [Start] does, and connects to nothing. Start begins
// with it.
func Check(ctx context.Context, cfg *config.Config) error {
	for i := range cfg.Pods {
		if err := checkPod(ctx, &cfg.Pods[i]); err != nil {
			return fmt.Errorf("pod %s: %w", cfg.Pods[i].Name, err)
		}
	}
	if _, err := loadExcuses(cfg, nil); err != nil {
		return err
	}
	if cfg.Control.Etcd.Used() {
		if _, err := cfg.Control.Etcd.Options(cfg); err != nil {
			return err
		}
	}
	dc, err := doorConfig(cfg)
	if err != nil {
		return err
	}
	_, err = respdoor.New(dc, &router{}, &router{}) // never started, so there is nothing to stop
	return err
}

func checkPod(ctx context.Context, c *config.Pod) error {
	tpl, err := c.Template()
	if err != nil {
		return err
	}
	rs, err := openRedis(ctx, c, tpl)
	if err != nil {
		return err
	}
	ms, err := openMySQL(ctx, c, nil)
	if err != nil {
		return errors.Join(err, rs.Close())
	}
	return errors.Join(ms.Close(), rs.Close())
}

func openRedis(ctx context.Context, c *config.Pod, tpl *backends.KeyTemplate) (*redisstore.Store, error) {
	var tlsCfg *tls.Config
	if c.Redis.TLS {
		tlsCfg = &tls.Config{MinVersion: tls.VersionTLS12}
	}
	rs, err := redisstore.Open(ctx, redisstore.Config{
		Pod: backends.Pod(c.Name), Addr: c.Redis.Addr, Username: c.Redis.User, Password: c.Redis.Password, DB: c.Redis.DB, TLS: tlsCfg,
		Prefix: c.Redis.Prefix, Template: tpl, OutboxMax: c.OutboxMax, Retain: time.Duration(c.Retain), PoolSize: c.Redis.PoolSize,
	})
	if err != nil {
		return nil, fmt.Errorf("redis: %w", err)
	}
	return rs, nil
}

func openMySQL(ctx context.Context, c *config.Pod, observe func(tag, op string, held time.Duration)) (*mysqlstore.Store, error) {
	ms, err := mysqlstore.Open(ctx, mysqlstore.Config{
		Pod: backends.Pod(c.Name), DSN: c.MySQL.DSN, PoolCap: c.MySQL.PoolCap, OutboxMax: int(c.OutboxMax), Retain: time.Duration(c.Retain),
		MaxConns: c.MySQL.MaxConns, LockWait: time.Duration(c.MySQL.LockWait),
		PoolCapFor: c.MySQL.PoolCapFor(), Combine: c.MySQL.Combine, Lanes: c.MySQL.Lanes, Observe: observe,
	})
	if err != nil {
		return nil, fmt.Errorf("mysql: %w", err)
	}
	return ms, nil
}

// doorConfig is the front door's, without what only a running proxy has.
func doorConfig(cfg *config.Config) (respdoor.Config, error) {
	tlsCfg, err := cfg.RESP.TLS(cfg)
	if err != nil {
		return respdoor.Config{}, err
	}
	restocks := map[backends.Pod]bool{}
	var reserved []string
	for _, c := range cfg.Pods {
		restocks[backends.Pod(c.Name)] = c.SetRestocks
		reserved = append(reserved, c.Redis.Prefix)
	}
	return respdoor.Config{
		User: cfg.RESP.User, Password: cfg.RESP.Password, TLS: tlsCfg, Reserved: reserved, MaxConns: cfg.RESP.MaxConns,
		SetRestocks: func(pod backends.Pod) bool { return restocks[pod] },
	}, nil
}
