// The process that holds a pod's namespaces open: never linked into Larder.
module larder.dev/tools/pause

go 1.24
