// One call at a time on an object that several threads could reach: a second one is an Error, not a race.
#pragma once

#include <atomic>
#include <string>

#include "host/base/error.hpp"

namespace perilune {

class Exclusive {
 public:
  // what: "this VectorEnv".
  Exclusive(std::atomic<bool>& in_use, const char* what) : in_use_(in_use) {
    if (in_use.exchange(true, std::memory_order_acquire)) {
      throw Error(std::string(what) +
                  " is in use by another thread - let one thread call it at a time, or make one for each");
    }
  }
  ~Exclusive() { in_use_.store(false, std::memory_order_release); }
  Exclusive(const Exclusive&) = delete;
  Exclusive& operator=(const Exclusive&) = delete;

 private:
  std::atomic<bool>& in_use_;
};

}  // namespace perilune
