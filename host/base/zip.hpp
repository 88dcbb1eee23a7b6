// ZIP archives whose entries are stored, not compressed, as torch.save writes them.
//
// An archive is: for each entry a header, its name, an extra field and its bytes; then the directory, which says of
// each entry its name, CRC-32, size and where its header is; then the end record, which says where the directory is.
// All numbers are little-endian. Reading trusts nothing: what header and directory say must agree, and entries lie
// apart, so that an archive never holds more than its file does.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace perilune {

struct ZipEntry {
  std::string_view name;
  std::span<const std::byte> data;
};

// The entries of an archive in the order of its directory; they point into `bytes`. Throws Error that begins with
// `source`, which is the archive's name in messages.
std::vector<ZipEntry> read_zip(std::span<const std::byte> bytes, const std::string& source);

// An archive with the data of each entry at a multiple of `alignment` bytes, for readers that map it. Throws Error if
// it would have 4 GiB or more, or 65535 entries.
std::string zip_archive(std::span<const ZipEntry> entries, std::size_t alignment);

// Of ISO 3309: the polynomial 0x04C11DB7, reflected. `before`: the CRC of the bytes before these.
std::uint32_t crc32(std::span<const std::byte> bytes, std::uint32_t before = 0);

}  // namespace perilune
