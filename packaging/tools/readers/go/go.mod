module collectord/packaging/tools/readers

go 1.26

require (
	github.com/DataDog/zstd v1.5.7
	github.com/klauspost/compress v1.20.3
)
