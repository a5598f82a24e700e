package config

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	promconfig "github.com/prometheus/common/config"
	"github.com/prometheus/prometheus/model/labels"
)

// TestHTTPJSON loads sources of type http_json, without their queries.
func TestHTTPJSON(t *testing.T) {
	want := Default()
	want.Sources = []Source{
		{
			Name: "shortest", Type: TypeHTTPJSON, URL: mustURL("http://127.0.0.1:9200/"), HTTP: promconfig.DefaultHTTPClientConfig,
			BodySizeLimit: 64 << 20, Job: "http_json", Instance: "127.0.0.1:9200", MaxConnections: 2,
		},
		{
			Name: "whole", Type: TypeHTTPJSON, URL: mustURL("https://db.example.com/api/v2/?tenant=a"),
			HTTP: promconfig.HTTPClientConfig{
				BasicAuth:   &promconfig.BasicAuth{Username: "u", Password: "s3cr$t"},
				TLSConfig:   promconfig.TLSConfig{CAFile: "testdata/good/secrets/ca.pem"},
				ProxyConfig: promconfig.ProxyConfig{ProxyURL: promconfig.URL{URL: mustURL("http://proxy:3128")}},
				HTTPHeaders: &promconfig.Headers{Headers: map[string]promconfig.Header{"X-Key": {Secrets: []promconfig.Secret{"s3cr$t"}}}},
			},
			BodySizeLimit: 10 << 20, AllowPost: true,
			Job: "search", Instance: "search-0", Labels: labels.FromStrings("team", "shop"), MaxConnections: 4,
		},
		{
			Name: "again", Type: TypeHTTPJSON, URL: mustURL("http://[::1]/"), HTTP: promconfig.DefaultHTTPClientConfig,
			BodySizeLimit: 64 << 20, Job: "http_json", Instance: "[::1]:80", MaxConnections: 2,
		},
	}
	for i := range want.Sources {
		want.Sources[i].Interval, want.Sources[i].Timeout = 30*time.Second, 10*time.Second
	}
	got, err := Load("testdata/good/http_json.yml", Options{Getenv: testEnv})
	if err != nil {
		t.Fatal(err)
	}
	for i := range got.Sources {
		got.Sources[i].Queries = nil
	}
	got.Warnings = nil
	want = withClocks(want)
	if diff := cmp.Diff(&want, got, asConfigured); diff != "" {
		t.Errorf("configuration differs (-want +got):\n%s", diff)
	}
}

// TestJSON: a query knows every column that its metrics read, whatever their
// types, and asks for the url where it says nothing.
func TestJSON(t *testing.T) {
	c, err := Load("testdata/good/http_json.yml", Options{Getenv: testEnv})
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range c.Sources[1:] {
		got := map[string]string{}
		for _, q := range s.Queries {
			method, _, _ := strings.Cut(q.SQL, "\n")
			text := method + " without json"
			if q.JSON != nil {
				text = fmt.Sprintf("%s rows %s columns", method, q.JSON.Rows)
				for _, column := range q.JSON.Columns {
					text += fmt.Sprintf(" %s=%s", column.Name, column.Path)
				}
			}
			got[q.Name] = text
		}
		want := map[string]string{
			"nodes":   `GET health rows  columns cluster=cluster n=number_of_nodes number.of*nodes=number\.of\*nodes`,
			"answer":  "HEAD / without json",
			"indices": "GET rows indices columns at=@this docs=primaries.docs.count index=@key reserved=reserved size=size",
			"build":   "GET rows  columns version=version",
			"latency": `POST /_search rows hits.#(a=="b")# columns all=all fast=fast s=s`,
			"rpc":     "GET rpc rows  columns c=c q=q s=s v=v",
			"role":    "GET role rows  columns role=role",
			"times":   "GET events?after={{cursor}} rows events columns id=id seconds=seconds uid=uid",
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("requests of %s differ (-want +got):\n%s", s.Name, diff)
		}
	}
}
