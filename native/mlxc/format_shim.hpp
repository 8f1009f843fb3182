// `std::format` for standard libraries without <format> (gcc 12). mlx-c only uses plain "{}".
#pragma once
#if defined(__cplusplus)
#include <version>
#if !defined(__cpp_lib_format)
#include <sstream>
#include <string>
#include <string_view>

namespace std {

inline void format_append(ostringstream& out, string_view pattern) {
  out << pattern;
}

template <class First, class... Rest>
void format_append(ostringstream& out, string_view pattern, First&& first, Rest&&... rest) {
  const auto hole = pattern.find("{}");
  if (hole == string_view::npos) {
    out << pattern;
    return;
  }
  out << pattern.substr(0, hole) << first;
  format_append(out, pattern.substr(hole + 2), forward<Rest>(rest)...);
}

template <class... Args>
string format(string_view pattern, Args&&... args) {
  ostringstream out;
  format_append(out, pattern, forward<Args>(args)...);
  return out.str();
}

}  // namespace std
#endif
#endif
