// Errors of the host code, and what the process exits with.
//
// A message reads: problem (value) - what is allowed - what to do. The command line prints it after
// "perilune: " and returns the error's exit code; nothing else in the program calls exit().
#pragma once

#include <filesystem>
#include <stdexcept>
#include <string>
#include <string_view>

namespace perilune {

enum class ExitCode : int { kOk = 0, kFailed = 1, kUsage = 2, kNoDevice = 3, kInterrupted = 130 };

class Error : public std::runtime_error {
 public:
  explicit Error(const std::string& message, ExitCode exit_code = ExitCode::kFailed)
      : std::runtime_error(message), exit_code_(exit_code) {}
  ExitCode exit_code() const { return exit_code_; }

 private:
  ExitCode exit_code_;
};

// What the user asked for is not possible: an unknown key, a value out of range, a damaged
// configuration file.
class UsageError : public Error {
 public:
  explicit UsageError(const std::string& message) : Error(message, ExitCode::kUsage) {}
};

// The device that was asked for is not there.
class NoDeviceError : public Error {
 public:
  explicit NoDeviceError(const std::string& message) : Error(message, ExitCode::kNoDevice) {}
};

// The device has less memory left than is needed.
class OutOfMemoryError : public Error {
 public:
  explicit OutOfMemoryError(const std::string& message) : Error(message) {}
};

// Throws Error "cannot <action> <path>: <text of error_number>", with a hint for the errors a user
// can mend (full disk, no permission, read-only file system). Call it with the errno of the failed
// call, saved before any clean-up.
[[noreturn]] void fail_io(std::string_view action, const std::filesystem::path& path, int error_number);

}  // namespace perilune
