# Print an optspec for argparse to handle cmd's options that are independent of any subcommand.
function __fish_pf_ctl_global_optspecs
    string join \n h/help V/version
end

function __fish_pf_ctl_needs_command
    # Figure out if the current invocation already has a command.
    set -l cmd (commandline -opc)
    set -e cmd[1]
    argparse -s (__fish_pf_ctl_global_optspecs) -- $cmd 2>/dev/null
    or return
    if set -q argv[1]
        # Also print the command, so this can be used to figure out what it is.
        echo $argv[1]
        return 1
    end
    return 0
end

function __fish_pf_ctl_using_subcommand
    set -l cmd (__fish_pf_ctl_needs_command)
    test -z "$cmd"
    and return 1
    contains -- $cmd[1] $argv
end

complete -c pf-ctl -n "__fish_pf_ctl_needs_command" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c pf-ctl -n "__fish_pf_ctl_needs_command" -s V -l version -d 'Print version'
complete -c pf-ctl -n "__fish_pf_ctl_needs_command" -f -a "reload" -d 'Rolls the workers to a new generation: program and directory are looked up anew'
complete -c pf-ctl -n "__fish_pf_ctl_needs_command" -f -a "upgrade" -d 'Replaces the master\'s own image and all workers'
complete -c pf-ctl -n "__fish_pf_ctl_needs_command" -f -a "rollback" -d 'Ends a running rollout, or rolls back to the release before'
complete -c pf-ctl -n "__fish_pf_ctl_needs_command" -f -a "history" -d 'Prints the generations: when, how long, how they ended, release, command'
complete -c pf-ctl -n "__fish_pf_ctl_needs_command" -f -a "scale" -d 'Sets the number of slots'
complete -c pf-ctl -n "__fish_pf_ctl_needs_command" -f -a "stop" -d 'Stops the service and waits until the master is gone, and everything of the service'
complete -c pf-ctl -n "__fish_pf_ctl_needs_command" -f -a "pause" -d 'Stops the workers and keeps the master and its listeners; clients wait in the accept queue'
complete -c pf-ctl -n "__fish_pf_ctl_needs_command" -f -a "resume" -d 'Starts the workers of a paused service again'
complete -c pf-ctl -n "__fish_pf_ctl_needs_command" -f -a "restart-worker" -d 'Replaces the worker of one slot; the old worker stops when the new one is ready'
complete -c pf-ctl -n "__fish_pf_ctl_needs_command" -f -a "retire" -d 'Ends the drain of a generation: its retiring workers get the quick signal'
complete -c pf-ctl -n "__fish_pf_ctl_needs_command" -f -a "reopen" -d 'Reopens the logs and passes USR1 on to the workers that catch it'
complete -c pf-ctl -n "__fish_pf_ctl_needs_command" -f -a "signal" -d 'Sends a signal to the master, to all workers, or to one worker'
complete -c pf-ctl -n "__fish_pf_ctl_needs_command" -f -a "pid" -d 'Prints the pid of the running master'
complete -c pf-ctl -n "__fish_pf_ctl_needs_command" -f -a "wait" -d 'Waits for a state of the service or for the end of an operation'
complete -c pf-ctl -n "__fish_pf_ctl_needs_command" -f -a "events" -d 'Follows what happens, as one JSON object a line, until the service has stopped'
complete -c pf-ctl -n "__fish_pf_ctl_needs_command" -f -a "drill" -d 'Rehearses a deployment on the running service, under load: nothing is deployed'
complete -c pf-ctl -n "__fish_pf_ctl_needs_command" -f -a "listeners" -d 'Prints the listeners: name, address, fd in the workers, and accept queue (queued/backlog)'
complete -c pf-ctl -n "__fish_pf_ctl_needs_command" -f -a "add-fds" -d 'Gives the master the listeners that pf-ctl has inherited, and rolls the workers to them'
complete -c pf-ctl -n "__fish_pf_ctl_needs_command" -f -a "take-fds" -d 'Becomes COMMAND, with the listeners of the master; the service goes on as it was'
complete -c pf-ctl -n "__fish_pf_ctl_needs_command" -f -a "help" -d 'Print this message or the help of the given subcommand(s)'
complete -c pf-ctl -n "__fish_pf_ctl_using_subcommand reload" -l timeout -d 'Stop waiting after this time (30s, 1m 30s, 250ms; off); the operation goes on' -r
complete -c pf-ctl -n "__fish_pf_ctl_using_subcommand reload" -l token -d 'Present the content of this file to a master that was started with --control-token' -r -F
complete -c pf-ctl -n "__fish_pf_ctl_using_subcommand reload" -l set -d 'Set a variable of the workers\' environment from now on; repeatable' -r
complete -c pf-ctl -n "__fish_pf_ctl_using_subcommand reload" -l unset -d 'Remove a variable from the workers\' environment from now on; repeatable' -r
complete -c pf-ctl -n "__fish_pf_ctl_using_subcommand reload" -l chdir -d 'The workers\' directory from now on; relative to where the master was started' -r
complete -c pf-ctl -n "__fish_pf_ctl_using_subcommand reload" -l json -d 'Print the master\'s reply as one line of JSON on stdout'
complete -c pf-ctl -n "__fish_pf_ctl_using_subcommand reload" -s q -l quiet -d 'Print only errors on stderr'
complete -c pf-ctl -n "__fish_pf_ctl_using_subcommand reload" -l no-wait -d 'Do not wait; print the operation\'s id, which wait --op takes'
complete -c pf-ctl -n "__fish_pf_ctl_using_subcommand reload" -l dry-run -d 'Only print what would change: program, directory, environment, listeners, peak workers'
complete -c pf-ctl -n "__fish_pf_ctl_using_subcommand reload" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c pf-ctl -n "__fish_pf_ctl_using_subcommand upgrade" -l timeout -d 'Stop waiting after this time (30s, 1m 30s, 250ms; off); the operation goes on' -r
complete -c pf-ctl -n "__fish_pf_ctl_using_subcommand upgrade" -l token -d 'Present the content of this file to a master that was started with --control-token' -r -F
complete -c pf-ctl -n "__fish_pf_ctl_using_subcommand upgrade" -l json -d 'Print the master\'s reply as one line of JSON on stdout'
complete -c pf-ctl -n "__fish_pf_ctl_using_subcommand upgrade" -s q -l quiet -d 'Print only errors on stderr'
complete -c pf-ctl -n "__fish_pf_ctl_using_subcommand upgrade" -l no-wait -d 'Do not wait; print the operation\'s id, which wait --op takes'
complete -c pf-ctl -n "__fish_pf_ctl_using_subcommand upgrade" -l dry-run -d 'Only print what would change: the master\'s program and command line, then as for reload'
complete -c pf-ctl -n "__fish_pf_ctl_using_subcommand upgrade" -l fork -d 'Start a new master beside the old one, which exits when its last worker is gone'
complete -c pf-ctl -n "__fish_pf_ctl_using_subcommand upgrade" -l manual -d 'With --fork: both masters serve with all workers until one of them gets QUIT'
complete -c pf-ctl -n "__fish_pf_ctl_using_subcommand upgrade" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c pf-ctl -n "__fish_pf_ctl_using_subcommand rollback" -l timeout -d 'Stop waiting after this time (30s, 1m 30s, 250ms; off); the operation goes on' -r
complete -c pf-ctl -n "__fish_pf_ctl_using_subcommand rollback" -l token -d 'Present the content of this file to a master that was started with --control-token' -r -F
complete -c pf-ctl -n "__fish_pf_ctl_using_subcommand rollback" -l to -d 'Roll to the release of this generation, which must be kept (see history)' -r
complete -c pf-ctl -n "__fish_pf_ctl_using_subcommand rollback" -l json -d 'Print the master\'s reply as one line of JSON on stdout'
complete -c pf-ctl -n "__fish_pf_ctl_using_subcommand rollback" -s q -l quiet -d 'Print only errors on stderr'
complete -c pf-ctl -n "__fish_pf_ctl_using_subcommand rollback" -l no-wait -d 'Do not wait; print the operation\'s id, which wait --op takes'
complete -c pf-ctl -n "__fish_pf_ctl_using_subcommand rollback" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c pf-ctl -n "__fish_pf_ctl_using_subcommand history" -l timeout -d 'Stop waiting after this time (30s, 1m 30s, 250ms; off); the operation goes on' -r
complete -c pf-ctl -n "__fish_pf_ctl_using_subcommand history" -l token -d 'Present the content of this file to a master that was started with --control-token' -r -F
complete -c pf-ctl -n "__fish_pf_ctl_using_subcommand history" -l json -d 'Print the master\'s reply as one line of JSON on stdout'
complete -c pf-ctl -n "__fish_pf_ctl_using_subcommand history" -s q -l quiet -d 'Print only errors on stderr'
complete -c pf-ctl -n "__fish_pf_ctl_using_subcommand history" -s h -l help -d 'Print help'
complete -c pf-ctl -n "__fish_pf_ctl_using_subcommand scale" -l timeout -d 'Stop waiting after this time (30s, 1m 30s, 250ms; off); the operation goes on' -r
complete -c pf-ctl -n "__fish_pf_ctl_using_subcommand scale" -l token -d 'Present the content of this file to a master that was started with --control-token' -r -F
complete -c pf-ctl -n "__fish_pf_ctl_using_subcommand scale" -l json -d 'Print the master\'s reply as one line of JSON on stdout'
complete -c pf-ctl -n "__fish_pf_ctl_using_subcommand scale" -s q -l quiet -d 'Print only errors on stderr'
complete -c pf-ctl -n "__fish_pf_ctl_using_subcommand scale" -l no-wait -d 'Do not wait; print the operation\'s id, which wait --op takes'
complete -c pf-ctl -n "__fish_pf_ctl_using_subcommand scale" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c pf-ctl -n "__fish_pf_ctl_using_subcommand stop" -l timeout -d 'Stop waiting after this time (30s, 1m 30s, 250ms; off); the operation goes on' -r
complete -c pf-ctl -n "__fish_pf_ctl_using_subcommand stop" -l token -d 'Present the content of this file to a master that was started with --control-token' -r -F
complete -c pf-ctl -n "__fish_pf_ctl_using_subcommand stop" -l json -d 'Print the master\'s reply as one line of JSON on stdout'
complete -c pf-ctl -n "__fish_pf_ctl_using_subcommand stop" -s q -l quiet -d 'Print only errors on stderr'
complete -c pf-ctl -n "__fish_pf_ctl_using_subcommand stop" -l no-wait -d 'Do not wait; print the operation\'s id, which wait --op takes'
complete -c pf-ctl -n "__fish_pf_ctl_using_subcommand stop" -l now -d 'Stop quickly: the workers get the quick signal instead of the graceful one'
complete -c pf-ctl -n "__fish_pf_ctl_using_subcommand stop" -l kill -d 'When --timeout has passed, kill the master and all its descendants (needs --timeout)'
complete -c pf-ctl -n "__fish_pf_ctl_using_subcommand stop" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c pf-ctl -n "__fish_pf_ctl_using_subcommand pause" -l timeout -d 'Stop waiting after this time (30s, 1m 30s, 250ms; off); the operation goes on' -r
complete -c pf-ctl -n "__fish_pf_ctl_using_subcommand pause" -l token -d 'Present the content of this file to a master that was started with --control-token' -r -F
complete -c pf-ctl -n "__fish_pf_ctl_using_subcommand pause" -l json -d 'Print the master\'s reply as one line of JSON on stdout'
complete -c pf-ctl -n "__fish_pf_ctl_using_subcommand pause" -s q -l quiet -d 'Print only errors on stderr'
complete -c pf-ctl -n "__fish_pf_ctl_using_subcommand pause" -l no-wait -d 'Do not wait; print the operation\'s id, which wait --op takes'
complete -c pf-ctl -n "__fish_pf_ctl_using_subcommand pause" -s h -l help -d 'Print help'
complete -c pf-ctl -n "__fish_pf_ctl_using_subcommand resume" -l timeout -d 'Stop waiting after this time (30s, 1m 30s, 250ms; off); the operation goes on' -r
complete -c pf-ctl -n "__fish_pf_ctl_using_subcommand resume" -l token -d 'Present the content of this file to a master that was started with --control-token' -r -F
complete -c pf-ctl -n "__fish_pf_ctl_using_subcommand resume" -l json -d 'Print the master\'s reply as one line of JSON on stdout'
complete -c pf-ctl -n "__fish_pf_ctl_using_subcommand resume" -s q -l quiet -d 'Print only errors on stderr'
complete -c pf-ctl -n "__fish_pf_ctl_using_subcommand resume" -l no-wait -d 'Do not wait; print the operation\'s id, which wait --op takes'
complete -c pf-ctl -n "__fish_pf_ctl_using_subcommand resume" -s h -l help -d 'Print help'
complete -c pf-ctl -n "__fish_pf_ctl_using_subcommand restart-worker" -l timeout -d 'Stop waiting after this time (30s, 1m 30s, 250ms; off); the operation goes on' -r
complete -c pf-ctl -n "__fish_pf_ctl_using_subcommand restart-worker" -l token -d 'Present the content of this file to a master that was started with --control-token' -r -F
complete -c pf-ctl -n "__fish_pf_ctl_using_subcommand restart-worker" -l json -d 'Print the master\'s reply as one line of JSON on stdout'
complete -c pf-ctl -n "__fish_pf_ctl_using_subcommand restart-worker" -s q -l quiet -d 'Print only errors on stderr'
complete -c pf-ctl -n "__fish_pf_ctl_using_subcommand restart-worker" -l no-wait -d 'Do not wait; print the operation\'s id, which wait --op takes'
complete -c pf-ctl -n "__fish_pf_ctl_using_subcommand restart-worker" -s h -l help -d 'Print help'
complete -c pf-ctl -n "__fish_pf_ctl_using_subcommand retire" -l timeout -d 'Stop waiting after this time (30s, 1m 30s, 250ms; off); the operation goes on' -r
complete -c pf-ctl -n "__fish_pf_ctl_using_subcommand retire" -l token -d 'Present the content of this file to a master that was started with --control-token' -r -F
complete -c pf-ctl -n "__fish_pf_ctl_using_subcommand retire" -l json -d 'Print the master\'s reply as one line of JSON on stdout'
complete -c pf-ctl -n "__fish_pf_ctl_using_subcommand retire" -s q -l quiet -d 'Print only errors on stderr'
complete -c pf-ctl -n "__fish_pf_ctl_using_subcommand retire" -l no-wait -d 'Do not wait; print the operation\'s id, which wait --op takes'
complete -c pf-ctl -n "__fish_pf_ctl_using_subcommand retire" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c pf-ctl -n "__fish_pf_ctl_using_subcommand reopen" -l timeout -d 'Stop waiting after this time (30s, 1m 30s, 250ms; off); the operation goes on' -r
complete -c pf-ctl -n "__fish_pf_ctl_using_subcommand reopen" -l token -d 'Present the content of this file to a master that was started with --control-token' -r -F
complete -c pf-ctl -n "__fish_pf_ctl_using_subcommand reopen" -l json -d 'Print the master\'s reply as one line of JSON on stdout'
complete -c pf-ctl -n "__fish_pf_ctl_using_subcommand reopen" -s q -l quiet -d 'Print only errors on stderr'
complete -c pf-ctl -n "__fish_pf_ctl_using_subcommand reopen" -l no-wait -d 'Do not wait; print the operation\'s id, which wait --op takes'
complete -c pf-ctl -n "__fish_pf_ctl_using_subcommand reopen" -s h -l help -d 'Print help'
complete -c pf-ctl -n "__fish_pf_ctl_using_subcommand signal" -l timeout -d 'Stop waiting after this time (30s, 1m 30s, 250ms; off); the operation goes on' -r
complete -c pf-ctl -n "__fish_pf_ctl_using_subcommand signal" -l token -d 'Present the content of this file to a master that was started with --control-token' -r -F
complete -c pf-ctl -n "__fish_pf_ctl_using_subcommand signal" -l slot -d 'Send it to the worker of this slot' -r
complete -c pf-ctl -n "__fish_pf_ctl_using_subcommand signal" -l json -d 'Print the master\'s reply as one line of JSON on stdout'
complete -c pf-ctl -n "__fish_pf_ctl_using_subcommand signal" -s q -l quiet -d 'Print only errors on stderr'
complete -c pf-ctl -n "__fish_pf_ctl_using_subcommand signal" -l no-wait -d 'Do not wait; print the operation\'s id, which wait --op takes'
complete -c pf-ctl -n "__fish_pf_ctl_using_subcommand signal" -l workers -d 'Send it to every worker'
complete -c pf-ctl -n "__fish_pf_ctl_using_subcommand signal" -s h -l help -d 'Print help'
complete -c pf-ctl -n "__fish_pf_ctl_using_subcommand pid" -l timeout -d 'Stop waiting after this time (30s, 1m 30s, 250ms; off); the operation goes on' -r
complete -c pf-ctl -n "__fish_pf_ctl_using_subcommand pid" -l token -d 'Present the content of this file to a master that was started with --control-token' -r -F
complete -c pf-ctl -n "__fish_pf_ctl_using_subcommand pid" -l json -d 'Print the master\'s reply as one line of JSON on stdout'
complete -c pf-ctl -n "__fish_pf_ctl_using_subcommand pid" -s q -l quiet -d 'Print only errors on stderr'
complete -c pf-ctl -n "__fish_pf_ctl_using_subcommand pid" -s h -l help -d 'Print help'
complete -c pf-ctl -n "__fish_pf_ctl_using_subcommand wait" -l timeout -d 'Stop waiting after this time (30s, 1m 30s, 250ms; off); the operation goes on' -r
complete -c pf-ctl -n "__fish_pf_ctl_using_subcommand wait" -l token -d 'Present the content of this file to a master that was started with --control-token' -r -F
complete -c pf-ctl -n "__fish_pf_ctl_using_subcommand wait" -l appear -d 'With --ready: how long the master may take to appear (off: for ever)' -r
complete -c pf-ctl -n "__fish_pf_ctl_using_subcommand wait" -l op -d 'Until this operation has ended; the exit code is that of its own command' -r
complete -c pf-ctl -n "__fish_pf_ctl_using_subcommand wait" -l json -d 'Print the master\'s reply as one line of JSON on stdout'
complete -c pf-ctl -n "__fish_pf_ctl_using_subcommand wait" -s q -l quiet -d 'Print only errors on stderr'
complete -c pf-ctl -n "__fish_pf_ctl_using_subcommand wait" -l ready -d 'Until all slots are ready and no rollout runs; also waits for the master to appear'
complete -c pf-ctl -n "__fish_pf_ctl_using_subcommand wait" -l gone -d 'Until the master is gone; done at once where nothing runs'
complete -c pf-ctl -n "__fish_pf_ctl_using_subcommand wait" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c pf-ctl -n "__fish_pf_ctl_using_subcommand events" -l timeout -d 'Stop waiting after this time (30s, 1m 30s, 250ms; off); the operation goes on' -r
complete -c pf-ctl -n "__fish_pf_ctl_using_subcommand events" -l token -d 'Present the content of this file to a master that was started with --control-token' -r -F
complete -c pf-ctl -n "__fish_pf_ctl_using_subcommand events" -l since -d 'Begin with the event after this number; 0: with the oldest that is kept' -r
complete -c pf-ctl -n "__fish_pf_ctl_using_subcommand events" -l json -d 'Print the master\'s reply as one line of JSON on stdout'
complete -c pf-ctl -n "__fish_pf_ctl_using_subcommand events" -s q -l quiet -d 'Print only errors on stderr'
complete -c pf-ctl -n "__fish_pf_ctl_using_subcommand events" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c pf-ctl -n "__fish_pf_ctl_using_subcommand drill" -l timeout -d 'Stop waiting after this time (30s, 1m 30s, 250ms; off); the operation goes on' -r
complete -c pf-ctl -n "__fish_pf_ctl_using_subcommand drill" -l token -d 'Present the content of this file to a master that was started with --control-token' -r -F
complete -c pf-ctl -n "__fish_pf_ctl_using_subcommand drill" -l request -d 'What is sent on each connection, with \\r, \\n, \\t, \\0, \\\\ and \\xNN; empty: only connect' -r
complete -c pf-ctl -n "__fish_pf_ctl_using_subcommand drill" -l json -d 'Print the master\'s reply as one line of JSON on stdout'
complete -c pf-ctl -n "__fish_pf_ctl_using_subcommand drill" -s q -l quiet -d 'Print only errors on stderr'
complete -c pf-ctl -n "__fish_pf_ctl_using_subcommand drill" -s y -l yes -d 'Do not ask before it begins'
complete -c pf-ctl -n "__fish_pf_ctl_using_subcommand drill" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c pf-ctl -n "__fish_pf_ctl_using_subcommand listeners" -l timeout -d 'Stop waiting after this time (30s, 1m 30s, 250ms; off); the operation goes on' -r
complete -c pf-ctl -n "__fish_pf_ctl_using_subcommand listeners" -l token -d 'Present the content of this file to a master that was started with --control-token' -r -F
complete -c pf-ctl -n "__fish_pf_ctl_using_subcommand listeners" -l remove -d 'Take this listener away, by its name, or its address if it has none' -r
complete -c pf-ctl -n "__fish_pf_ctl_using_subcommand listeners" -l json -d 'Print the master\'s reply as one line of JSON on stdout'
complete -c pf-ctl -n "__fish_pf_ctl_using_subcommand listeners" -s q -l quiet -d 'Print only errors on stderr'
complete -c pf-ctl -n "__fish_pf_ctl_using_subcommand listeners" -l no-wait -d 'Do not wait; print the operation\'s id, which wait --op takes'
complete -c pf-ctl -n "__fish_pf_ctl_using_subcommand listeners" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c pf-ctl -n "__fish_pf_ctl_using_subcommand add-fds" -l timeout -d 'Stop waiting after this time (30s, 1m 30s, 250ms; off); the operation goes on' -r
complete -c pf-ctl -n "__fish_pf_ctl_using_subcommand add-fds" -l token -d 'Present the content of this file to a master that was started with --control-token' -r -F
complete -c pf-ctl -n "__fish_pf_ctl_using_subcommand add-fds" -l json -d 'Print the master\'s reply as one line of JSON on stdout'
complete -c pf-ctl -n "__fish_pf_ctl_using_subcommand add-fds" -s q -l quiet -d 'Print only errors on stderr'
complete -c pf-ctl -n "__fish_pf_ctl_using_subcommand add-fds" -l no-wait -d 'Do not wait; print the operation\'s id, which wait --op takes'
complete -c pf-ctl -n "__fish_pf_ctl_using_subcommand add-fds" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c pf-ctl -n "__fish_pf_ctl_using_subcommand take-fds" -l timeout -d 'Stop waiting after this time (30s, 1m 30s, 250ms; off); the operation goes on' -r
complete -c pf-ctl -n "__fish_pf_ctl_using_subcommand take-fds" -l token -d 'Present the content of this file to a master that was started with --control-token' -r -F
complete -c pf-ctl -n "__fish_pf_ctl_using_subcommand take-fds" -s e -l export -d 'Pass the listeners on in this protocol too, as pf-listen does; repeatable' -r -f -a "systemd\t''
einhorn\t''
server-starter\t''
unicorn\t''
nginx\t''
php-fpm\t''"
complete -c pf-ctl -n "__fish_pf_ctl_using_subcommand take-fds" -l json -d 'Print the master\'s reply as one line of JSON on stdout'
complete -c pf-ctl -n "__fish_pf_ctl_using_subcommand take-fds" -s q -l quiet -d 'Print only errors on stderr'
complete -c pf-ctl -n "__fish_pf_ctl_using_subcommand take-fds" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c pf-ctl -n "__fish_pf_ctl_using_subcommand help; and not __fish_seen_subcommand_from reload upgrade rollback history scale stop pause resume restart-worker retire reopen signal pid wait events drill listeners add-fds take-fds help" -f -a "reload" -d 'Rolls the workers to a new generation: program and directory are looked up anew'
complete -c pf-ctl -n "__fish_pf_ctl_using_subcommand help; and not __fish_seen_subcommand_from reload upgrade rollback history scale stop pause resume restart-worker retire reopen signal pid wait events drill listeners add-fds take-fds help" -f -a "upgrade" -d 'Replaces the master\'s own image and all workers'
complete -c pf-ctl -n "__fish_pf_ctl_using_subcommand help; and not __fish_seen_subcommand_from reload upgrade rollback history scale stop pause resume restart-worker retire reopen signal pid wait events drill listeners add-fds take-fds help" -f -a "rollback" -d 'Ends a running rollout, or rolls back to the release before'
complete -c pf-ctl -n "__fish_pf_ctl_using_subcommand help; and not __fish_seen_subcommand_from reload upgrade rollback history scale stop pause resume restart-worker retire reopen signal pid wait events drill listeners add-fds take-fds help" -f -a "history" -d 'Prints the generations: when, how long, how they ended, release, command'
complete -c pf-ctl -n "__fish_pf_ctl_using_subcommand help; and not __fish_seen_subcommand_from reload upgrade rollback history scale stop pause resume restart-worker retire reopen signal pid wait events drill listeners add-fds take-fds help" -f -a "scale" -d 'Sets the number of slots'
complete -c pf-ctl -n "__fish_pf_ctl_using_subcommand help; and not __fish_seen_subcommand_from reload upgrade rollback history scale stop pause resume restart-worker retire reopen signal pid wait events drill listeners add-fds take-fds help" -f -a "stop" -d 'Stops the service and waits until the master is gone, and everything of the service'
complete -c pf-ctl -n "__fish_pf_ctl_using_subcommand help; and not __fish_seen_subcommand_from reload upgrade rollback history scale stop pause resume restart-worker retire reopen signal pid wait events drill listeners add-fds take-fds help" -f -a "pause" -d 'Stops the workers and keeps the master and its listeners; clients wait in the accept queue'
complete -c pf-ctl -n "__fish_pf_ctl_using_subcommand help; and not __fish_seen_subcommand_from reload upgrade rollback history scale stop pause resume restart-worker retire reopen signal pid wait events drill listeners add-fds take-fds help" -f -a "resume" -d 'Starts the workers of a paused service again'
complete -c pf-ctl -n "__fish_pf_ctl_using_subcommand help; and not __fish_seen_subcommand_from reload upgrade rollback history scale stop pause resume restart-worker retire reopen signal pid wait events drill listeners add-fds take-fds help" -f -a "restart-worker" -d 'Replaces the worker of one slot; the old worker stops when the new one is ready'
complete -c pf-ctl -n "__fish_pf_ctl_using_subcommand help; and not __fish_seen_subcommand_from reload upgrade rollback history scale stop pause resume restart-worker retire reopen signal pid wait events drill listeners add-fds take-fds help" -f -a "retire" -d 'Ends the drain of a generation: its retiring workers get the quick signal'
complete -c pf-ctl -n "__fish_pf_ctl_using_subcommand help; and not __fish_seen_subcommand_from reload upgrade rollback history scale stop pause resume restart-worker retire reopen signal pid wait events drill listeners add-fds take-fds help" -f -a "reopen" -d 'Reopens the logs and passes USR1 on to the workers that catch it'
complete -c pf-ctl -n "__fish_pf_ctl_using_subcommand help; and not __fish_seen_subcommand_from reload upgrade rollback history scale stop pause resume restart-worker retire reopen signal pid wait events drill listeners add-fds take-fds help" -f -a "signal" -d 'Sends a signal to the master, to all workers, or to one worker'
complete -c pf-ctl -n "__fish_pf_ctl_using_subcommand help; and not __fish_seen_subcommand_from reload upgrade rollback history scale stop pause resume restart-worker retire reopen signal pid wait events drill listeners add-fds take-fds help" -f -a "pid" -d 'Prints the pid of the running master'
complete -c pf-ctl -n "__fish_pf_ctl_using_subcommand help; and not __fish_seen_subcommand_from reload upgrade rollback history scale stop pause resume restart-worker retire reopen signal pid wait events drill listeners add-fds take-fds help" -f -a "wait" -d 'Waits for a state of the service or for the end of an operation'
complete -c pf-ctl -n "__fish_pf_ctl_using_subcommand help; and not __fish_seen_subcommand_from reload upgrade rollback history scale stop pause resume restart-worker retire reopen signal pid wait events drill listeners add-fds take-fds help" -f -a "events" -d 'Follows what happens, as one JSON object a line, until the service has stopped'
complete -c pf-ctl -n "__fish_pf_ctl_using_subcommand help; and not __fish_seen_subcommand_from reload upgrade rollback history scale stop pause resume restart-worker retire reopen signal pid wait events drill listeners add-fds take-fds help" -f -a "drill" -d 'Rehearses a deployment on the running service, under load: nothing is deployed'
complete -c pf-ctl -n "__fish_pf_ctl_using_subcommand help; and not __fish_seen_subcommand_from reload upgrade rollback history scale stop pause resume restart-worker retire reopen signal pid wait events drill listeners add-fds take-fds help" -f -a "listeners" -d 'Prints the listeners: name, address, fd in the workers, and accept queue (queued/backlog)'
complete -c pf-ctl -n "__fish_pf_ctl_using_subcommand help; and not __fish_seen_subcommand_from reload upgrade rollback history scale stop pause resume restart-worker retire reopen signal pid wait events drill listeners add-fds take-fds help" -f -a "add-fds" -d 'Gives the master the listeners that pf-ctl has inherited, and rolls the workers to them'
complete -c pf-ctl -n "__fish_pf_ctl_using_subcommand help; and not __fish_seen_subcommand_from reload upgrade rollback history scale stop pause resume restart-worker retire reopen signal pid wait events drill listeners add-fds take-fds help" -f -a "take-fds" -d 'Becomes COMMAND, with the listeners of the master; the service goes on as it was'
complete -c pf-ctl -n "__fish_pf_ctl_using_subcommand help; and not __fish_seen_subcommand_from reload upgrade rollback history scale stop pause resume restart-worker retire reopen signal pid wait events drill listeners add-fds take-fds help" -f -a "help" -d 'Print this message or the help of the given subcommand(s)'
