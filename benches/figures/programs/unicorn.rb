# The worker of the figures, as a Rack application of unicorn's.
worker_processes Integer(ENV.fetch("BENCH_WORKERS"))
listen ENV.fetch("BENCH_ADDRESS")
after_worker_ready do |_server, _worker|
  now = Process.clock_gettime(Process::CLOCK_MONOTONIC, :nanosecond)
  record = [Process.pid, 0, now].pack("lLQ")
  File.open(ENV.fetch("BENCH_FIFO"), "wb") { |fifo| fifo.syswrite(record) }
end
