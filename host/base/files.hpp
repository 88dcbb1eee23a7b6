// Files that must not be lost: replaced atomically, or appended to with every error seen.
#pragma once

#include <cstddef>
#include <filesystem>
#include <span>
#include <string_view>
#include <vector>

namespace perilune {

// An open file descriptor. The destructor closes it and drops errors; close() reports them.
class File {
 public:
  File() = default;
  // open(2) with O_CLOEXEC; new files are made rw for the user, r for others. Throws Error "cannot
  // <action> <path>".
  File(const std::filesystem::path& path, int flags, std::string_view action);
  File(File&& other) noexcept;
  File& operator=(File&& other) noexcept;
  ~File();

  bool is_open() const { return descriptor_ >= 0; }
  int descriptor() const { return descriptor_; }
  const std::filesystem::path& path() const { return path_; }

  // Writes all of it at the file position, however many calls that takes.
  void write(std::span<const std::byte> bytes);
  void write(std::string_view text) { write(std::as_bytes(std::span(text))); }
  // Waits until the data is on the disk.
  void sync();
  void close();

 private:
  int descriptor_ = -1;
  std::filesystem::path path_;
};

// All of a regular file. Throws Error "cannot <action> <path>".
std::vector<std::byte> read_file(const std::filesystem::path& path, std::string_view action);

// Makes a change of directory entries (new file, rename) durable. Throws Error.
void sync_directory(const std::filesystem::path& directory);

// Where replace_file writes before it renames: `<path>.tmp.<pid>`. Such a file left behind by a
// killed process is garbage; remove_stale_temporaries clears a directory of them.
std::filesystem::path temporary_path(const std::filesystem::path& path);
void remove_stale_temporaries(const std::filesystem::path& directory);

// Replaces `path` by the concatenated pieces: written to temporary_path(path), synced, renamed
// over, directory synced. With a non-empty `previous` the file that was at `path` is renamed to it
// first, so that at every instant `path` or `previous` is complete. On any error (a full disk shows
// in write, sync or close) throws Error, removes the temporary and leaves `path` as it was.
void replace_file(const std::filesystem::path& path, std::span<const std::span<const std::byte>> pieces,
                  const std::filesystem::path& previous = {});
void replace_file(const std::filesystem::path& path, std::string_view text);

}  // namespace perilune
