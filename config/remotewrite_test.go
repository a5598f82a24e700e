package config

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	promconfig "github.com/prometheus/common/config"
	"github.com/prometheus/sigv4"
)

// TestEndpoints loads endpoints that use every field TestGood leaves out.
func TestEndpoints(t *testing.T) {
	mimir := func(name string, change func(*RemoteWrite)) RemoteWrite {
		r := DefaultRemoteWrite()
		r.URL, r.Name = mustURL("https://mimir/api/v1/push"), name
		change(&r)
		return r
	}
	proxy := promconfig.URL{URL: mustURL("http://u:s3cr$t@proxy:3128")}
	want := Default()
	want.Storage.MaxBytes, want.Storage.DeadLetterMaxBytes = 100<<20, 25<<20
	want.RemoteWrite = []RemoteWrite{
		mimir("amp", func(r *RemoteWrite) {
			r.URL = mustURL("https://aps-workspaces.eu-central-1.amazonaws.com/workspaces/ws-1/api/v1/remote_write")
			r.StartAt, r.AdoptFrom, r.MaxBlock = StartAtOldest, "mimir", 2*time.Hour
			r.SendExemplars, r.SendNativeHistograms = false, false
			r.MetadataConfig = MetadataConfig{SendInterval: 5 * time.Minute, MaxSamplesPerSend: 500}
			r.Queue.SampleAgeLimit, r.Queue.MaxSamplesPerSecond = 6*time.Hour, 50000
			r.SigV4 = &sigv4.SigV4Config{
				Region: "eu-central-1", AccessKey: "AKIA", SecretKey: "s3cr$t", Profile: "dba",
				RoleARN: "arn:aws:iam::1:role/dba", ExternalID: "shop", SessionName: "agent", Tags: map[string]string{"team": "dba"},
				UseFIPSSTSEndpoint: true, ServiceName: "aps",
			}
		}),
		mimir("oauth", func(r *RemoteWrite) {
			r.Headers = map[string]Secret{"X-Scope-OrgID": NewSecret("dba")}
			r.HTTP.HTTPHeaders = &promconfig.Headers{Headers: map[string]promconfig.Header{"X-Route": {
				Values: []string{"dba", "b"}, Secrets: []promconfig.Secret{"s3cr$t"}, Files: []string{"testdata/good/secrets/pg"},
			}}}
			r.HTTP.OAuth2 = &promconfig.OAuth2{
				ClientID: "agent", ClientSecret: "s3cr$t", Scopes: []string{"metrics.write"}, TokenURL: "https://tokens/oauth2/token",
				EndpointParams: map[string]string{"audience": "mimir", "password": "s3cr$t"},
				TLSConfig:      promconfig.TLSConfig{CAFile: "testdata/good/secrets/ca.pem"},
				ProxyConfig:    promconfig.ProxyConfig{ProxyURL: proxy, NoProxy: "localhost"},
			}
		}),
		mimir("jwt", func(r *RemoteWrite) {
			r.HTTP.ProxyURL = proxy
			r.HTTP.OAuth2 = &promconfig.OAuth2{
				ClientID: "agent", ClientSecretFile: "testdata/good/secrets/pg", TokenURL: "https://tokens/",
				GrantType: jwtBearer, ClientCertificateKey: "s3cr$t", ClientCertificateKeyID: "k1", SignatureAlgorithm: "RS384",
				Iss: "agent@shop", Audience: "mimir",
				Claims: map[string]any{
					"sub": "agent", "level": 3, "pass": "s3cr$t", "groups": []any{"a", map[string]any{"b": true}},
				},
				ProxyConfig: promconfig.ProxyConfig{ProxyFromEnvironment: true},
			}
		}),
		mimir("jwt-file", func(r *RemoteWrite) {
			r.HTTP.TLSConfig = promconfig.TLSConfig{CA: "dba", Cert: "b", KeyFile: "testdata/good/secrets/ca.pem"}
			r.HTTP.OAuth2 = &promconfig.OAuth2{
				ClientID: "agent", TokenURL: "https://tokens/", GrantType: jwtBearer,
				ClientCertificateKeyFile: "testdata/good/secrets/ca.pem",
			}
		}),
		mimir("role", func(r *RemoteWrite) { r.SigV4 = &sigv4.SigV4Config{} }),
	}
	got, err := Load("testdata/good/endpoints.yml", Options{Getenv: testEnv})
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(&want, got, asConfigured); diff != "" {
		t.Errorf("configuration differs (-want +got):\n%s", diff)
	}
}
