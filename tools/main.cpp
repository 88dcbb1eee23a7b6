// The program: parses the command line, runs one command, and turns every failure into one line and an exit code.
#include <chrono>
#include <csignal>
#include <new>
#include <stdexcept>
#include <string>
#include <vector>

#include "host/base/error.hpp"
#include "tools/commands/commands.hpp"
#include "tools/commands/terminal.hpp"

namespace {

using namespace perilune;

// Initialised before main: as near to the start of the process as the program can see.
const auto kProcessStart = std::chrono::steady_clock::now();

ExitCode run(int argc, char** argv) {
  const Process process{kProcessStart, argc > 0 ? argv[0] : "perilune"};
  const std::vector<std::string> arguments(argv + (argc > 0 ? 1 : 0), argv + argc);
  return parse_command_line(perilune_program(), arguments).run(process);
}

int fail(const std::string& message, ExitCode code) {
  Terminal err = Terminal::standard_error();
  err.print(err.styled(Style::kBad, "perilune:") + " " + message + "\n");
  return static_cast<int>(code);
}

}  // namespace

int main(int argc, char** argv) {
  // A reader that went away is a failed write, which is reported; a training run goes on without it.
  std::signal(SIGPIPE, SIG_IGN);
  try {
    return static_cast<int>(run(argc, argv));
  } catch (const Error& error) {
    return fail(error.what(), error.exit_code());
  } catch (const std::invalid_argument& error) {  // PERILUNE_CPU_LEVEL
    return fail(error.what(), ExitCode::kUsage);
  } catch (const NoCpuLevelError& error) {
    return fail(error.what(), ExitCode::kNoDevice);
  } catch (const std::bad_alloc&) {
    return fail("out of memory - lower num_envs, num_steps or the hidden layers' sizes", ExitCode::kFailed);
  } catch (const std::exception& error) {
    return fail(std::string("internal error: ") + error.what(), ExitCode::kFailed);
  }
}
