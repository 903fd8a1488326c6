package main

import (
	"regexp"
	"strings"
)

const hidden = "***"

var (
	userinfo     = regexp.MustCompile(`://[^/?#\s@]*@`)
	secretHeader = regexp.MustCompile(`(?i)(auth|cookie|token|key|secret|password|session)`)
)

// withoutUser hides the user and password of the URLs in a text.
func withoutUser(s string) string { return userinfo.ReplaceAllString(s, "://"+hidden+"@") }

// withoutSecrets copies a command line without its credentials: users and
// passwords, the values of headers that carry such, and bodies.
func withoutSecrets(args []string) []string {
	clean := make([]string, len(args))
	flag := "" // whose value comes next
	for i, arg := range args {
		switch {
		case flag != "":
			clean[i], flag = hide(flag, arg), ""
		case arg == "-u" || arg == "--user" || arg == "-H" || arg == "--header" || arg == "-b" || arg == "--body" || arg == "--proxy":
			clean[i], flag = arg, strings.TrimLeft(arg, "-")[:1]
		case strings.HasPrefix(arg, "--"):
			name, value, ok := strings.Cut(arg, "=")
			clean[i] = withoutUser(arg)
			if ok && (name == "--user" || name == "--header" || name == "--body" || name == "--proxy") {
				clean[i] = name + "=" + hide(name[2:3], value)
			}
		case strings.HasPrefix(arg, "-") && len(arg) > 2 && strings.Contains("uHb", arg[1:2]):
			clean[i] = arg[:2] + hide(arg[1:2], strings.TrimPrefix(arg[2:], "="))
		default:
			clean[i] = withoutUser(arg)
		}
	}
	return clean
}

// hide hides what is secret in the value of a flag, which is named by its first
// letter.
func hide(flag, value string) string {
	switch flag {
	case "u":
		return hidden
	case "b":
		if strings.HasPrefix(value, "@") {
			return value
		}
		return hidden
	case "H", "h":
		if name, _, ok := strings.Cut(value, ":"); ok && secretHeader.MatchString(name) {
			return name + ": " + hidden
		}
	}
	return withoutUser(value)
}
