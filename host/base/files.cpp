// See files.hpp.
#include "host/base/files.hpp"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <string>
#include <utility>

#include "host/base/error.hpp"

namespace perilune {

File::File(const std::filesystem::path& path, int flags, std::string_view action)
    : descriptor_(::open(path.c_str(), flags | O_CLOEXEC, 0644)), path_(path) {
  if (descriptor_ < 0) fail_io(action, path, errno);
}

File::File(File&& other) noexcept : descriptor_(std::exchange(other.descriptor_, -1)), path_(std::move(other.path_)) {}

File& File::operator=(File&& other) noexcept {
  std::swap(descriptor_, other.descriptor_);
  std::swap(path_, other.path_);
  return *this;
}

File::~File() {
  if (descriptor_ >= 0) ::close(descriptor_);
}

void File::write(std::span<const std::byte> bytes) {
  while (!bytes.empty()) {
    const ssize_t count = ::write(descriptor_, bytes.data(), bytes.size());
    if (count < 0 && errno == EINTR) continue;
    if (count < 0) fail_io("write", path_, errno);
    bytes = bytes.subspan(static_cast<std::size_t>(count));
  }
}

void File::sync() {
  // Files that cannot be synced (pipes, /dev/null) have nothing to lose.
  if (::fsync(descriptor_) != 0 && errno != EINVAL && errno != EROFS) fail_io("write", path_, errno);
}

void File::close() {
  if (::close(std::exchange(descriptor_, -1)) != 0 && errno != EINTR) fail_io("write", path_, errno);
}

std::vector<std::byte> read_file(const std::filesystem::path& path, std::string_view action) {
  const File file(path, O_RDONLY, action);
  struct stat status {};
  if (::fstat(file.descriptor(), &status) != 0) fail_io(action, path, errno);
  if (!S_ISREG(status.st_mode)) fail_io(action, path, S_ISDIR(status.st_mode) ? EISDIR : EINVAL);
  std::vector<std::byte> bytes(static_cast<std::size_t>(status.st_size));
  std::size_t filled = 0;
  while (filled < bytes.size()) {
    const ssize_t count = ::read(file.descriptor(), bytes.data() + filled, bytes.size() - filled);
    if (count < 0 && errno == EINTR) continue;
    if (count < 0) fail_io(action, path, errno);
    if (count == 0) break;
    filled += static_cast<std::size_t>(count);
  }
  bytes.resize(filled);
  return bytes;
}

void sync_directory(const std::filesystem::path& directory) {
  File(directory.empty() ? "." : directory, O_RDONLY | O_DIRECTORY, "open directory").sync();
}

std::filesystem::path temporary_path(const std::filesystem::path& path) {
  return path.string() + ".tmp." + std::to_string(::getpid());
}

void remove_stale_temporaries(const std::filesystem::path& directory) {
  for (const auto& entry : std::filesystem::directory_iterator(directory)) {
    if (entry.path().filename().string().find(".tmp.") == std::string::npos) continue;
    std::error_code ignored;
    std::filesystem::remove(entry.path(), ignored);
  }
}

void replace_file(const std::filesystem::path& path, std::span<const std::span<const std::byte>> pieces,
                  const std::filesystem::path& previous) {
  const std::filesystem::path temporary = temporary_path(path);
  try {
    File file(temporary, O_WRONLY | O_CREAT | O_TRUNC, "create");
    for (std::span<const std::byte> piece : pieces) file.write(piece);
    file.sync();
    file.close();
    if (!previous.empty() && std::rename(path.c_str(), previous.c_str()) != 0 && errno != ENOENT) {
      fail_io("keep the previous file as", previous, errno);
    }
    if (std::rename(temporary.c_str(), path.c_str()) != 0) {
      const int error_number = errno;
      if (!previous.empty()) std::rename(previous.c_str(), path.c_str());
      fail_io("replace", path, error_number);
    }
  } catch (...) {
    ::unlink(temporary.c_str());
    throw;
  }
  sync_directory(path.parent_path());
}

void replace_file(const std::filesystem::path& path, std::string_view text) {
  const std::array pieces = {std::as_bytes(std::span(text))};
  replace_file(path, pieces);
}

}  // namespace perilune
