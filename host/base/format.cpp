// The only file that is built with fmt's own definitions. See format.hpp.
#define FMT_HEADER_ONLY
#include "host/base/format.hpp"

namespace perilune {

std::string filled(fmt::string_view text, fmt::format_args values) { return fmt::vformat(text, values); }

}  // namespace perilune
