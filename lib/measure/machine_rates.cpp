#include "measure/machine_rates.hpp"

#include <cmath>
#include <fstream>
#include <nlohmann/json.hpp>
#include <utility>

#include "core/error.hpp"

namespace koios {
namespace {

using Json = nlohmann::ordered_json;

constexpr double kTera = 1e12;
constexpr double kGiga = 1e9;

struct Field {
  const char* key;
  double MachineRates::*member;
  double unit;
};

constexpr Field kFields[] = {
    {"gemm_tflops", &MachineRates::gemm, kTera},
    {"gemm_tensorwise_tflops", &MachineRates::gemm_tensorwise, kTera},
    {"gemm_rowwise_tflops", &MachineRates::gemm_rowwise, kTera},
    {"gemm_block_tflops", &MachineRates::gemm_block, kTera},
    {"attention_forward_tflops", &MachineRates::attention_forward, kTera},
    {"attention_backward_tflops", &MachineRates::attention_backward, kTera},
    {"attention_tokens", &MachineRates::attention_tokens, 1},
    {"memory_gbs", &MachineRates::memory, kGiga},
    {"copy_gbs", &MachineRates::copy, kGiga},
    {"collective_gbs", &MachineRates::collective, kGiga},
    {"between_nodes_gbs", &MachineRates::between_nodes, kGiga},
    {"power_w", &MachineRates::power_w, 1}};

// Where each figure was measured: docs/planning.md. That of links between nodes is assumed: one
// adapter of 400 Gbit/s for each GPU, at 90% of it.
constexpr double kAssumedLink = 45 * kGiga;

const MachineRates kKnown[] = {{.name = "h100",
                                .gemm = 705 * kTera,
                                .gemm_tensorwise = 1240 * kTera,
                                .gemm_rowwise = 1075 * kTera,
                                .gemm_block = 1010 * kTera,
                                .attention_forward = 570 * kTera,
                                .attention_backward = 460 * kTera,
                                .attention_tokens = kGpuAttentionTokens,
                                .memory = 2750 * kGiga,
                                .copy = 263 * kGiga,
                                .collective = 300 * kGiga,
                                .between_nodes = kAssumedLink,
                                .power_w = 700,
                                .source = "measured on H100 of 80 GB (docs/planning.md)"},
                               {.name = "h200",
                                .gemm = 698 * kTera,
                                .gemm_tensorwise = 1350 * kTera,
                                .gemm_rowwise = 1100 * kTera,
                                .gemm_block = 1040 * kTera,
                                .attention_forward = 565 * kTera,
                                .attention_backward = 469 * kTera,
                                .attention_tokens = kGpuAttentionTokens,
                                .memory = 3920 * kGiga,
                                .copy = 263 * kGiga,
                                .collective = 300 * kGiga,
                                .between_nodes = kAssumedLink,
                                .power_w = 700,
                                .source = "measured on H200 (docs/planning.md)"}};

constexpr const char* kCompute = "compute";

DType compute_type(const Json& value, const std::string& file) {
  for (const DType type : {DType::bfloat16, DType::float32}) {
    if (value == to_string(type)) return type;
  }
  throw UserError(cat(file, ": \"", kCompute, "\" must be bfloat16 or float32"));
}

}  // namespace

double MachineRates::gemm_of(Fp8Recipe recipe) const {
  switch (recipe) {
    case Fp8Recipe::none:
      return gemm;
    case Fp8Recipe::tensorwise:
      return gemm_tensorwise;
    case Fp8Recipe::rowwise:
      return gemm_rowwise;
    case Fp8Recipe::block:
      return gemm_block;
  }
  KOIOS_REQUIRE(false, "unknown recipe");
}

std::optional<MachineRates> known_rates(std::string_view gpu) {
  for (const MachineRates& rates : kKnown) {
    if (rates.name == gpu) return rates;
  }
  return std::nullopt;
}

MachineRates read_rates(const std::filesystem::path& file, MachineRates base) {
  const std::string name = file.string();
  std::ifstream in(file);
  std::error_code ignored;
  if (!in || std::filesystem::is_directory(file, ignored)) {
    throw UserError(cat(name, ": cannot be read; --rates takes a file of rates"));
  }
  const Json json = Json::parse(in, nullptr, /*allow_exceptions=*/false);
  if (json.is_discarded()) throw UserError(cat(name, ": is not JSON"));
  const auto rates = json.is_object() ? json.find("rates") : json.end();
  if (rates == json.end() || !rates->is_object()) {
    throw UserError(cat(name, ": has no object \"rates\"; koios --self-test writes one"));
  }
  for (const auto& [key, value] : rates->items()) {
    if (key == "name" && value.is_string()) {
      base.name = value.get<std::string>();
      continue;
    }
    if (key == kCompute) {
      base.compute = compute_type(value, name);
      continue;
    }
    const Field* field = nullptr;
    for (const Field& known : kFields) {
      if (key == known.key) field = &known;
    }
    if (field == nullptr) throw UserError(cat(name, ": \"", key, "\" is no rate"));
    const double rate = value.is_number() ? value.get<double>() : 0;
    if (!std::isfinite(rate) || rate <= 0) {
      throw UserError(cat(name, ": \"", key, "\" must be a number above 0"));
    }
    base.*field->member = rate * field->unit;
  }
  if (base.name.empty()) base.name = name;
  base.source = base.source.empty() ? name : cat(base.source, " and ", name);
  return base;
}

std::string rates_json(const MachineRates& rates) {
  Json json;
  json["name"] = rates.name;
  json[kCompute] = to_string(rates.compute);
  for (const Field& field : kFields) {
    if (rates.*field.member > 0) json[field.key] = rates.*field.member / field.unit;
  }
  return json.dump();
}

std::vector<std::string> missing_rates(const MachineRates& rates, Fp8Recipe recipe) {
  std::vector<std::string> missing;
  for (const Field& field : kFields) {
    const auto is = [&](double MachineRates::*member) { return field.member == member; };
    const bool is_asked = is(&MachineRates::gemm) || is(&MachineRates::attention_forward) ||
                          is(&MachineRates::attention_backward) || is(&MachineRates::memory) ||
                          (recipe == Fp8Recipe::tensorwise && is(&MachineRates::gemm_tensorwise)) ||
                          (recipe == Fp8Recipe::rowwise && is(&MachineRates::gemm_rowwise)) ||
                          (recipe == Fp8Recipe::block && is(&MachineRates::gemm_block));
    if (is_asked && rates.*field.member <= 0) missing.emplace_back(field.key);
  }
  return missing;
}

}  // namespace koios
