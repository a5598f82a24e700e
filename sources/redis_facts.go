package sources

import (
	"context"

	"sql2metrics/config"
)

// facts tells what the gate of q asks about the server: a cluster's is that of
// the node that was connected to first.
func (r *redisServer) facts(ctx context.Context, c *redisConn, q config.Query) (facts, error) {
	if err := c.begin(); err != nil {
		return facts{}, err
	}
	ctx, cancel := redisTimeout(ctx, q.Timeout)
	defer cancel()
	f, err := c.home.facts(ctx, q.Requires)
	return f, redisCause(ctx, err)
}

func (n *redisNode) facts(ctx context.Context, wanted config.Requires) (facts, error) {
	var f facts
	if len(wanted.Version.Bounds) > 0 && n.version == "" {
		version, err := n.infoField(ctx, "server", "redis_version")
		if err != nil {
			return f, err
		}
		n.version = version
	}
	f.version = n.version
	if wanted.Role != "" {
		role, err := n.infoField(ctx, "replication", "role")
		if err != nil {
			return f, err
		}
		f.role = config.RolePrimary
		if role == "slave" {
			f.role = config.RoleReplica
		}
	}
	if len(wanted.Extensions) > 0 {
		modules, err := n.do(ctx, "MODULE", "LIST")
		if err != nil {
			return f, err
		}
		w := redisRows{each: func(row *Row) error {
			for i, column := range row.Columns {
				if column == "name" {
					f.extensions = append(f.extensions, string(row.Values[i].AppendText(nil)))
				}
			}
			return nil
		}}
		return f, recordRows(&modules, nil, &w)
	}
	return f, nil
}

// infoField returns one field of a section of INFO.
func (n *redisNode) infoField(ctx context.Context, section, field string) (string, error) {
	answer, err := n.do(ctx, "INFO", section)
	if err != nil {
		return "", err
	}
	text, err := answer.text()
	if err != nil {
		return "", err
	}
	for name, value := range pairs(text, ":", "\n") {
		if string(name) == field {
			return string(value), nil
		}
	}
	return "", nil
}
