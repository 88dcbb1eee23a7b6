// See error.hpp.
#include "host/base/error.hpp"

#include <cerrno>
#include <system_error>

namespace perilune {

void fail_io(std::string_view action, const std::filesystem::path& path, int error_number) {
  std::string message =
      "cannot " + std::string(action) + " " + path.string() + ": " + std::generic_category().message(error_number);
  switch (error_number) {
    case ENOSPC:
    case EDQUOT:
    case EFBIG:
      message += " - free some space, or use --run-dir on another disk; files written before are kept";
      break;
    case EACCES:
    case EPERM:
    case EROFS:
      message += " - make it writable for this user, or use --run-dir with a directory that is";
      break;
    case ENOENT:
    case ENOTDIR:
    case EISDIR:
    case ENAMETOOLONG:
    case ELOOP:
      message += " - check the path";
      break;
    default:
      break;
  }
  throw Error(message);
}

}  // namespace perilune
