package main

import (
	"slices"
	"strings"
	"testing"
)

func TestSecretsAreHidden(t *testing.T) {
	for _, c := range []struct{ args, want string }{
		{"http://127.0.0.1/", "http://127.0.0.1/"},
		{"http://me:secret@127.0.0.1/a@b", "http://***@127.0.0.1/a@b"},
		{"http://secret@127.0.0.1", "http://***@127.0.0.1"},
		{"http://me:sec@secret@127.0.0.1/?x=y@z", "http://***@127.0.0.1/?x=y@z"},
		{"http://127.0.0.1/?to=a@b", "http://127.0.0.1/?to=a@b"},
		{"-u|me:secret|-c|4", "-u|***|-c|4"},
		{"-ume:secret", "-u***"},
		{"-u=me:secret", "-u=***"},
		{"-ku|me:secret|-c|4", "-ku|***|-c|4"},
		{"-4kume:secret", "-4ku***"},
		{"--user|me:secret", "--user|***"},
		{"--user=me:secret", "--user=***"},
		{"-H|Authorization: Bearer secret", "-H|Authorization: ***"},
		{"-HCookie: secret", "-HCookie: ***"},
		{"-kH|X-Api-Key:secret", "-kH|X-Api-Key: ***"},
		{"--header|proxy-authorization: secret", "--header|proxy-authorization: ***"},
		{"--header=X-Session-Token: secret", "--header=X-Session-Token: ***"},
		{"-H|Accept: text/plain", "-H|Accept: text/plain"},
		{"-H|Referer: http://me:secret@127.0.0.1/", "-H|Referer: http://***@127.0.0.1/"},
		{"-b|secret", "-b|***"},
		{"-bsecret", "-b***"},
		{"-b|@body.json", "-b|@body.json"},
		{"--body=secret", "--body=***"},
		{"--body|secret|-p|8", "--body|***|-p|8"},
		{"--proxy|http://me:secret@127.0.0.1:3128", "--proxy|http://***@127.0.0.1:3128"},
		{"--proxy=socks5://me:secret@127.0.0.1", "--proxy=socks5://***@127.0.0.1"},
		{"--proxy|me:secret@127.0.0.1:3128", "--proxy|***@127.0.0.1:3128"},
		{"--proxy=me:secret@127.0.0.1:3128", "--proxy=***@127.0.0.1:3128"},
		{"--proxy|127.0.0.1:3128", "--proxy|127.0.0.1:3128"},
		{"-R|20k|--assert|p99<5ms|-d|10s", "-R|20k|--assert|p99<5ms|-d|10s"},
		{"-cu|-d|1s", "-cu|-d|1s"}, // -c has the value u
		{"-X|PUT|http://a/", "-X|PUT|http://a/"},
	} {
		args := strings.Split(c.args, "|")
		before := slices.Clone(args)
		if got := strings.Join(withoutSecrets(args), "|"); got != c.want {
			t.Errorf("%s\nis told as %s\nwant       %s", c.args, got, c.want)
		}
		if !slices.Equal(args, before) {
			t.Errorf("%s was changed", c.args)
		}
	}
}
