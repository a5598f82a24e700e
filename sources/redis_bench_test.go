package sources_test

import (
	"testing"

	"github.com/redis/go-redis/v9"
	"github.com/redis/go-redis/v9/maintnotifications"
)

// redisBenched reads rows from where a script holds them: Redis has no table
// of its own.
func redisBenched(b *testing.B) benched {
	r := sharedRedis.Get(b)
	const script = "local rows = {} for n = 1, 10000 do rows[n] = {'status-' .. n % 7, 'region-' .. n % 13, 'customer-' .. n, n} end return rows"
	return benched{redisSource(r), `EVAL_RO "` + script + `" 0`, func(b *testing.B) func() error {
		client := redis.NewClient(&redis.Options{
			Addr: r.Addr(), ContextTimeoutEnabled: true, DisableIdentity: true,
			MaintNotificationsConfig: &maintnotifications.Config{Mode: maintnotifications.ModeDisabled},
		})
		b.Cleanup(func() { _ = client.Close() })
		labels := make([]byte, 0, 256)
		var total int64
		return func() error {
			reply, err := client.Do(b.Context(), "EVAL_RO", script, 0).Slice()
			for _, row := range reply {
				cells := row.([]any)
				labels = labels[:0]
				for _, cell := range cells[:3] {
					labels = append(labels, cell.(string)...)
				}
				total += cells[3].(int64)
			}
			return err
		}
	}}
}
