complete -c pf-master -s n -l workers -d 'Number of slots' -r
complete -c pf-master -s l -l listen -d 'Bind this address too; repeatable' -r
complete -c pf-master -s e -l export -d 'Pass the listeners on in this protocol too, besides systemd\'s; repeatable' -r -f -a "systemd\t''
einhorn\t''
server-starter\t''
unicorn\t''
nginx\t''
php-fpm\t''"
complete -c pf-master -s p -l pid -d 'Pid file: the pid and a newline; the master holds a lock on it as long as it runs' -r -F
complete -c pf-master -l control -d 'Control socket: a Unix path with the options mode=, owner=, group=' -r
complete -c pf-master -l control-token -d 'Clients of the control socket must present the content of this file too' -r -F
complete -c pf-master -s r -l ready -d 'When a worker is ready: auto, notify, heartbeat, delay=D, exec, or fd=N' -r
complete -c pf-master -l start-timeout -d 'A worker that is not ready after D is killed, which is a failed start (off: no limit)' -r
complete -c pf-master -s t -l timeout -d 'A worker without a heartbeat for D gets the abort signal, and KILL 1s later' -r
complete -c pf-master -l abort-signal -d 'The signal for a missed heartbeat, on which many runtimes print a stack before they exit' -r
complete -c pf-master -l graceful-signal -d 'The signal that requests a worker to finish' -r
complete -c pf-master -l graceful-timeout -d 'How long a worker may take to finish; then its whole process group gets KILL' -r
complete -c pf-master -l quick-signal -d 'The signal of a quick stop' -r
complete -c pf-master -l quick-timeout -d 'How long a quick stop may take; then the workers get KILL' -r
complete -c pf-master -l stop-delay -d 'On a graceful stop: report \'stopping\' and serve for D more, so that load balancers notice' -r
complete -c pf-master -l max-draining -d 'At most N retiring workers; if there are more, the oldest is killed' -r
complete -c pf-master -l term -d 'What TERM to the master means' -r -f -a "graceful\t'A graceful stop'
quick\t'A quick stop, Unicorn\'s way'"
complete -c pf-master -l surge -d 'How many workers more than slots may be starting at once: N, or N% of the slots' -r
complete -c pf-master -l canary -d 'The first new worker must stay ready this long before a rollout goes on: D, auto, or off' -r
complete -c pf-master -l probation -d 'Roll back if a new worker dies by itself or misses its heartbeat within D after all are ready' -r
complete -c pf-master -l start-failures -d 'Roll back after N failed starts in a rollout; in the first rollout: exit 1' -r
complete -c pf-master -l backoff -d 'The wait before the next start in a slot: doubles from MIN to MAX, with jitter' -r
complete -c pf-master -l give-up -d 'Exit 1 after N consecutive failed starts with no worker ready' -r
complete -c pf-master -l fatal-exit -d 'A worker that exits with one of these codes is not started again' -r
complete -c pf-master -l keep-fd -d 'Pass this descriptor on to workers, at its own number; repeatable' -r
complete -c pf-master -l lifeline-fd -d 'Stop gracefully when a byte arrives on this descriptor, or no process has its other end' -r
complete -c pf-master -l notify-path -d 'Make the workers\' NOTIFY_SOCKET a path in this directory' -r -F
complete -c pf-master -l chdir -d 'Working directory of the workers; resolved anew for each generation' -r -F
complete -c pf-master -l env -d 'Set a variable of the workers\' environment; repeatable' -r
complete -c pf-master -l log -d 'The master\'s log; reopened on USR1 and HUP (default: stderr)' -r -F
complete -c pf-master -l log-format -d 'The format of the log\'s lines' -r -f -a "text\t'For people'
json\t'One JSON object a line'"
complete -c pf-master -l reexec -d 'The command line that an upgrade executes, run by sh; it should end in an exec' -r
complete -c pf-master -l no-control -d 'No control socket'
complete -c pf-master -l drain-queue -d 'On a graceful stop: signal the workers only when each accept queue has been empty once'
complete -c pf-master -l clear-env -d 'Workers inherit no variable of the master\'s own environment'
complete -c pf-master -l daemonize -d 'Detach; exit 0 when the service is up, or print why it is not'
complete -c pf-master -l check -d 'Check options, program and addresses; start nothing'
complete -c pf-master -s v -l verbose -d 'Log more'
complete -c pf-master -s q -l quiet -d 'Log only warnings and errors'
complete -c pf-master -s h -l help -d 'Print help (see more with \'--help\')'
complete -c pf-master -s V -l version -d 'Print version'
