module larder.dev/tools/pause

go 1.24
