package main

func basicSituations(situations map[string][]situation) {
	situations["basics"] = []situation{
		{name: "the version", args: "version", says: "collectord "},
		{name: "a configuration that is right", args: "config check", config: "data_dir: DIR/data\n", says: "the configuration is valid"},
	}
}
