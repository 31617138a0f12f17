// How far the wall clocks of the ranks' nodes are apart.
#pragma once

namespace koios {

/// Seconds by which this rank's wall clock is ahead of rank 0's, right to half of the fastest of
/// some messages there and back. Collective over the job.
double clock_offset_s();

}  // namespace koios
