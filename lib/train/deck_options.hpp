// The deck's words as the options of lib/data and lib/comm.
#pragma once

#include "comm/mesh.hpp"
#include "config/run_config.hpp"
#include "data/data_options.hpp"

namespace koios {

/// vocab_size: the model's. bad: told of data that cannot be used. ranks: that read it together;
/// null: this process alone.
DataOptions training_data(const RunConfig& config, std::int64_t vocab_size, BadData& bad,
                          const SampleRanks* ranks);

/// [validation], which must be on: one stream in published order.
DataOptions validation_data(const RunConfig& config, std::int64_t vocab_size, BadData& bad,
                            const SampleRanks* ranks);

/// [comm].
CommOptions comm_options(const RunConfig& config);

}  // namespace koios
