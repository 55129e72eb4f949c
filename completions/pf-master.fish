complete -c pf-master -s n -l workers -d 'Number of slots' -r
complete -c pf-master -s l -l listen -d 'Bind this address here too; repeatable' -r
complete -c pf-master -s e -l export -d 'Tell workers of the listeners in this protocol too, besides systemd\'s; repeatable' -r -f -a "systemd\t''
einhorn\t''
server-starter\t''
unicorn\t''
nginx\t''
php-fpm\t''"
complete -c pf-master -s p -l pid -d 'Pid file: the number and a newline, locked for the master\'s life' -r -F
complete -c pf-master -l control -d 'Control socket: a Unix path with the options mode=, owner=, group=' -r
complete -c pf-master -s r -l ready -d 'When a worker is ready: auto, notify, heartbeat, delay=D, exec, or fd=N' -r
complete -c pf-master -l start-timeout -d 'Not ready by then: killed, a failed start (off: never)' -r
complete -c pf-master -s t -l timeout -d 'No heartbeat for D: the abort signal, 1s later KILL' -r
complete -c pf-master -l abort-signal -d 'What a worker that missed its heartbeat gets first, so that runtimes print a stack before they die' -r
complete -c pf-master -l graceful-signal -d 'What asks a worker to finish' -r
complete -c pf-master -l graceful-timeout -d 'How long it may take; then KILL to its whole group' -r
complete -c pf-master -l quick-signal -d 'What a quick stop sends' -r
complete -c pf-master -l quick-timeout -d 'How long a quick stop may take; then KILL' -r
complete -c pf-master -l stop-delay -d 'On a graceful stop: say \'stopping\' and keep serving this long, so that a load balancer looks away first' -r
complete -c pf-master -l max-draining -d 'At most N retiring workers; beyond it the oldest is killed' -r
complete -c pf-master -l term -d 'What TERM to the master means' -r -f -a "graceful\t'A graceful stop'
quick\t'A quick stop, Unicorn\'s way'"
complete -c pf-master -l surge -d 'How many workers beyond the slots may be starting at once; N% of the slots too' -r
complete -c pf-master -l canary -d 'The first new worker must stay ready this long before a rollout goes on' -r
complete -c pf-master -l probation -d 'After a rollout: a new worker that dies by itself or misses its heartbeat within D rolls it back' -r
complete -c pf-master -l start-failures -d 'Failed starts that roll a rollout back; the first rollout: exit 1' -r
complete -c pf-master -l backoff -d 'Wait before a slot\'s next start: doubling from MIN to MAX, with jitter' -r
complete -c pf-master -l give-up -d 'Exit 1 after N consecutive failed starts with no worker ready' -r
complete -c pf-master -l fatal-exit -d 'A worker that exits with one of these codes is not started again' -r
complete -c pf-master -l keep-fd -d 'Pass this descriptor on to workers, at its own number; repeatable' -r
complete -c pf-master -l chdir -d 'Working directory of the workers, resolved anew for each generation' -r -F
complete -c pf-master -l env -d 'A variable of the workers\' environment; repeatable' -r
complete -c pf-master -l log -d 'The master\'s log; reopened on USR1 and HUP (default: stderr)' -r -F
complete -c pf-master -l log-format -d 'How the log\'s lines look' -r -f -a "text\t'For people'
json\t'One JSON object a line'"
complete -c pf-master -l reexec -d 'What an upgrade executes, run by sh; it should end in an exec' -r
complete -c pf-master -l no-control -d 'No control socket'
complete -c pf-master -l drain-queue -d 'On a graceful stop: workers are told only once each accept queue has been seen empty, or at the graceful timeout'
complete -c pf-master -l clear-env -d 'Workers get nothing of the master\'s own environment'
complete -c pf-master -l daemonize -d 'Detach; exit 0 once the service is up, else tell why it is not'
complete -c pf-master -l check -d 'Validate options, program and addresses; start nothing'
complete -c pf-master -s v -l verbose -d 'Log more'
complete -c pf-master -s q -l quiet -d 'Log warnings and errors alone'
complete -c pf-master -s h -l help -d 'Print help (see more with \'--help\')'
complete -c pf-master -s V -l version -d 'Print version'
