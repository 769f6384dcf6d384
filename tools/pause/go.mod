// The process that keeps a pod's namespaces alive. Never linked into Larder.
module larder.dev/tools/pause

go 1.24
