package config

import (
	"fmt"
	"maps"
	"slices"
	"strings"
)

// httpJSONFields are the fields of a source of type http_json.
func httpJSONFields() []string {
	return append([]string{"url", "body_size_limit", "allow_post", "max_connections", "collectors"}, slices.Collect(maps.Keys(clientTable.fields))...)
}

// finishHTTPJSON checks an API that answers with JSON. What bounds a result is
// BodySizeLimit, of which its rows are parts.
func (s *source) finishHTTPJSON(before int) {
	s.MaxConnectionLifetime, s.MaxResultBytes = 0, 0
	s.finishHTTP(before, "/", "write the URL of the API, such as http://127.0.0.1:9200")
}

// checkRequests reports the queries that the source cannot run because they are
// written for another type: requests for http_json, statements for databases.
func (s *source) checkRequests() {
	for _, c := range s.collectors {
		for _, q := range c.queries {
			switch {
			case s.Type == TypeHTTPJSON:
				s.checkRequest(q)
			case q.json != nil && s.Type != "":
				q.json.fail(fmt.Sprintf("is read from the answers of an API, and the source %s, which runs the query %s, is of type %s", s.Name, q.Name, s.Type),
					fmt.Sprintf("delete it and write a statement, or take the collector %s out of that source", c.name))
			}
		}
	}
}

// checkRequest reports a query that an API cannot answer with rows. The request
// itself is checked by whoever sends it.
func (s *source) checkRequest(q *query) {
	if head := strings.EqualFold(requestMethod(q.SQL), "HEAD"); !head && q.json == nil && q.SQL != "" {
		q.at("query").fail(fmt.Sprintf("does not say how the answer becomes rows, and the source %s, which runs the query %s, is of type %s", s.Name, q.Name, s.Type),
			"write json beside it, such as json: {rows: hits, columns: {name: _id}}; json: {} where the answer is one row")
	}
	for _, gate := range []string{"requires", "server_version"} {
		if q.has(gate) {
			q.at(gate).fail(fmt.Sprintf("cannot be asked of the source %s, which runs the query %s: an API says nothing of its server", s.Name, q.Name),
				"delete it, or run the query in a source that is a database")
		}
	}
}

// requestMethod returns the first word of a request.
func requestMethod(request string) string {
	for word := range strings.FieldsSeq(request) {
		return word
	}
	return ""
}
