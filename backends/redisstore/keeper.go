package redisstore

import (
	"context"
	"fmt"
	"maps"
	"strconv"
	"strings"

	"github.com/crossfade-proxy/crossfade/backends"
)

// minVersion is the first whose scripts refuse as a whole when memory is short.
const minVersion = 7

// Setup checks that the server is fit, and gives it the scripts.
func (s *Store) Setup(ctx context.Context) error {
	info := map[string]string{}
	for _, section := range []string{"server", "cluster", "replication", "memory"} {
		// Not by the lanes: their connections want the fence, which a cluster does not give.
		text, err := s.pass.Info(ctx, section).Result()
		if err != nil {
			return fmt.Errorf("reading INFO %s: %w", section, classify(err, false, backends.Token{}))
		}
		maps.Copy(info, parseInfo(text))
	}
	if err := judge(info, s.configuredPolicy(ctx)); err != nil {
		return err
	}
	for _, sc := range []*script{
		foldScript, countsScript, reemitScript, completeScript, adoptScript,
		raiseScript, trimScript, fenceScript, admittedScript, levelsScript, dueScript, openScript, pendingScript, statsScript, sumHeldScript,
	} {
		if _, err := s.one(ctx, s.bulk, plain("SCRIPT", "LOAD", sc.text)); err != nil {
			return fmt.Errorf("%w: the server refuses script %s: %w; allow EVALSHA and SCRIPT to this user", backends.ErrSetup, sc.name, err)
		}
	}
	if _, err := s.Fence(ctx); err != nil {
		return fmt.Errorf("%w: the fence cannot be read: %w; allow this user the keys under %s and INFO", backends.ErrSetup, err, abbreviate(s.names.prefix))
	}
	return nil
}

// configuredPolicy asks for the eviction policy; "" when that is forbidden.
func (s *Store) configuredPolicy(ctx context.Context) string {
	policy, err := s.pass.ConfigGet(ctx, "maxmemory-policy").Result()
	if err != nil {
		return ""
	}
	return policy["maxmemory-policy"]
}

// judge tells why a server cannot be used, from what INFO says and the configured policy ("" when
// it could not be asked).
func judge(info map[string]string, policy string) error {
	refuse := func(what, next string) error {
		return fmt.Errorf("%w: %s; %s", backends.ErrSetup, what, next)
	}
	version := info["redis_version"]
	major, _, _ := strings.Cut(version, ".")
	if n, err := strconv.Atoi(major); err != nil || n < minVersion {
		return refuse("redis_version is "+abbreviate(version), fmt.Sprintf("use Redis %d.0 or newer, or Valkey", minVersion))
	}
	if info["run_id"] == "" {
		return refuse("INFO server names no run_id", "use a Redis or Valkey, without a proxy before it")
	}
	if info["cluster_enabled"] != "0" {
		return refuse("the server runs in cluster mode (cluster_enabled is "+abbreviate(info["cluster_enabled"])+"), where a cart's keys are on several servers", "use one primary per pod, with 'cluster-enabled no'")
	}
	if info["role"] != "master" {
		return refuse("the server is a replica (role is "+abbreviate(info["role"])+")", "give the address of the primary")
	}
	if policy == "" {
		policy = info["maxmemory_policy"]
	}
	if policy != "noeviction" {
		return refuse("maxmemory-policy is "+abbreviate(policy)+", which may drop stock and holds", "set 'maxmemory-policy noeviction'")
	}
	return nil
}

// Maintain keeps the apologies within their bound. Ended holds and operation ids go by
// themselves, and debt is paid by the counter itself.
func (s *Store) Maintain(ctx context.Context, t backends.Token) (bool, error) {
	_, err := s.write(ctx, s.bulk, s.script(trimScript, t, nil))
	return false, err
}
