package main

import (
	"slices"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"collectord/collectord/send"
	"collectord/config"
)

// completeValues sets the shell completion of the values of c's flags: files, fixed
// choices, or nothing.
func completeValues(c *cobra.Command) {
	files := []string{"config", "payload", "token-file", "ca-file", "cert-file", "key-file", "accept", "http-tokens-file"}
	values := map[string]cobra.CompletionFunc{
		"data-dir":    completeDirectory,
		"destination": completeDestination,
		"node":        completeNode,
		"expect":      completeNode,
		"compress":    cobra.FixedCompletions([]string{send.Gzip, send.Zstd}, cobra.ShellCompDirectiveNoFileComp),
		"from":        cobra.FixedCompletions([]string{"15m", "2h", "7d"}, cobra.ShellCompDirectiveNoFileComp),
		"to":          cobra.FixedCompletions([]string{"15m", "2h", "7d"}, cobra.ShellCompDirectiveNoFileComp),
	}
	completeFlag := func(f *pflag.Flag) {
		if _, known := c.GetFlagCompletionFunc(f.Name); known || f.NoOptDefVal != "" || slices.Contains(files, f.Name) {
			return
		}
		complete, ok := values[f.Name]
		if !ok {
			complete = cobra.FixedCompletions(config.Choices(f.Name), cobra.ShellCompDirectiveNoFileComp)
		}
		_ = c.RegisterFlagCompletionFunc(f.Name, complete) // can't fail: the flag exists and has no completion yet
	}
	c.LocalFlags().VisitAll(completeFlag)
	if c.ValidArgsFunction == nil {
		c.ValidArgsFunction = cobra.NoFileCompletions
	}
}

func completeDirectory(*cobra.Command, []string, string) ([]string, cobra.ShellCompDirective) {
	return nil, cobra.ShellCompDirectiveFilterDirs
}

// completeDestination completes a destination with the configured one and the URL
// schemes.
func completeDestination(cmd *cobra.Command, _ []string, _ string) (all []string, _ cobra.ShellCompDirective) {
	if cfg, err := loadQuietly(cmd, bucketKeys...); err == nil {
		all = append(all, cfg.Shipper.Destination)
	}
	return append(all, "s3://", "file:///"), cobra.ShellCompDirectiveNoFileComp | cobra.ShellCompDirectiveNoSpace
}

// completeTarget completes the URL of send.
func completeTarget(*cobra.Command, []string, string) ([]string, cobra.ShellCompDirective) {
	return []string{send.DefaultTarget, "udp://localhost:3000", "https://", "unix:/"}, cobra.ShellCompDirectiveNoFileComp | cobra.ShellCompDirectiveNoSpace
}

func completeNode(cmd *cobra.Command, _ []string, _ string) (all []string, _ cobra.ShellCompDirective) {
	if cfg, err := loadQuietly(cmd, "node"); err == nil {
		all = append(all, cfg.Node)
	}
	return all, cobra.ShellCompDirectiveNoFileComp
}

// loadQuietly loads the settings without printing warnings, which would disturb a
// completion.
func loadQuietly(cmd *cobra.Command, keys ...string) (*config.Config, error) {
	src := source(cmd)
	src.Uses = keys
	cfg, _, err := config.Load(src)
	return cfg, err
}
