// Any exception in words for the user.
#pragma once

#include <exception>
#include <string>

namespace koios {

/// What to tell a user of an exception, whoever threw it: our own in their words; of the standard
/// library's and of other libraries' what they mean, since their own words name no file, key or
/// cure.
std::string explain(const std::exception& error);
/// The same of what is caught just now, which need not be a std::exception.
std::string explain_current_exception();

}  // namespace koios
