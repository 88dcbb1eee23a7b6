// See json.hpp.
#include "host/base/json.hpp"

#include <algorithm>

#include <nlohmann/json.hpp>

namespace perilune {

bool Json::is_member() const {
  const Array* pair = std::get_if<Array>(&value_);
  return pair != nullptr && pair->size() == 2 && std::holds_alternative<std::string>(pair->front().value_);
}

Json::Json(std::initializer_list<Json> values) {
  if (!std::all_of(values.begin(), values.end(), [](const Json& value) { return value.is_member(); })) {
    value_ = Array(values);
    return;
  }
  Object object;
  for (const Json& value : values) {
    const Array& pair = std::get<Array>(value.value_);
    object.emplace_back(std::get<std::string>(pair[0].value_), pair[1]);
  }
  value_ = std::move(object);
}

Json Json::array() {
  Json json;
  json.value_ = Array();
  return json;
}

Json Json::object() {
  Json json;
  json.value_ = Object();
  return json;
}

Json& Json::operator[](std::string_view name) {
  if (std::holds_alternative<std::monostate>(value_)) value_ = Object();
  Object& members = std::get<Object>(value_);
  const auto found =
      std::find_if(members.begin(), members.end(), [&](const auto& member) { return member.first == name; });
  if (found != members.end()) return found->second;
  return members.emplace_back(name, Json()).second;
}

void Json::push_back(Json value) {
  if (std::holds_alternative<std::monostate>(value_)) value_ = Array();
  std::get<Array>(value_).push_back(std::move(value));
}

// Makes nlohmann's value of ours.
struct JsonText {
  using Theirs = nlohmann::ordered_json;

  Theirs operator()(std::monostate) const { return nullptr; }
  Theirs operator()(const Json::Array& values) const {
    Theirs array = Theirs::array();
    for (const Json& value : values) array.push_back(std::visit(*this, value.value_));
    return array;
  }
  Theirs operator()(const Json::Object& members) const {
    Theirs object = Theirs::object();
    for (const auto& [name, value] : members) object[name] = std::visit(*this, value.value_);
    return object;
  }
  Theirs operator()(const auto& plain) const { return plain; }
};

std::string Json::dump(int indent) const {
  return std::visit(JsonText(), value_).dump(indent, ' ', false, JsonText::Theirs::error_handler_t::replace);
}

}  // namespace perilune
