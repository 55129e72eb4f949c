run lambda { |env|
  sleep 0.02 if env["PATH_INFO"].start_with?("/w")
  [200, { "content-type" => "text/plain", "content-length" => "3" }, ["ok\n"]]
}
