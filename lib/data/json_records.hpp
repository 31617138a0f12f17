// Documents in JSON: one object a line, or the elements of one array. See record_format.hpp.
#pragma once

#include <string>

#include "data/record_format.hpp"

namespace koios {

Found read_jsonl(ByteReader& bytes, Document* document, std::string& why);
Found read_alpaca(ByteReader& bytes, Document* document, std::string& why);

}  // namespace koios
