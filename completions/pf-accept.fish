complete -c pf-accept -s c -l max-clients -d 'Handlers at once; while so many run, nothing is accepted' -r
complete -c pf-accept -l max-requests -d 'Finish, and exit 0, after N connections' -r
complete -c pf-accept -l client-timeout -d 'End a handler after D: TERM to its process group, 1s later KILL' -r
complete -c pf-accept -l idle-timeout -d 'Exit 0 after D without a connection' -r
complete -c pf-accept -l drain-timeout -d 'After TERM or QUIT: how long running handlers may go on' -r
complete -c pf-accept -l serialize -d 'Of all workers that say so, only one at a time waits for a connection'
complete -c pf-accept -s v -l verbose -d 'Tell of each connection on stderr'
complete -c pf-accept -s q -l quiet -d 'Only errors on stderr'
complete -c pf-accept -s h -l help -d 'Print help (see more with \'--help\')'
complete -c pf-accept -s V -l version -d 'Print version'
