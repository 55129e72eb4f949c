complete -c pf-accept -s c -l max-clients -d 'At most N handlers at once; while N run, no connection is accepted' -r
complete -c pf-accept -l max-requests -d 'Finish after N connections, and exit 0' -r
complete -c pf-accept -l client-timeout -d 'End a handler after D: TERM to its process group, 1s later KILL' -r
complete -c pf-accept -l idle-timeout -d 'Exit 0 after D without a connection' -r
complete -c pf-accept -l drain-timeout -d 'After TERM or QUIT: how long running handlers may continue' -r
complete -c pf-accept -l serialize -d 'Of all workers with this option, only one at a time waits for a connection'
complete -c pf-accept -s v -l verbose -d 'Print each connection on stderr'
complete -c pf-accept -s q -l quiet -d 'Print only errors on stderr'
complete -c pf-accept -s h -l help -d 'Print help (see more with \'--help\')'
complete -c pf-accept -s V -l version -d 'Print version'
