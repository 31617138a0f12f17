#include "train/bad_data_report.hpp"

#include <sstream>

#include "core/log.hpp"

namespace koios {

void BadDataReport::tell(BadData& bad, const MpiEnv& mpi) {
  if (!bad.skips()) return;
  const BadData::News news = bad.take_news();
  std::string mine = cat(news.untold, "\n");
  for (const std::string& text : news.texts) mine += text + "\n";
  const std::int64_t untold_before = untold_;
  for (const std::string& of_rank : mpi.all_gather(mine)) {
    if (mpi.rank() != 0) continue;
    std::istringstream lines(of_rank);
    std::string text;
    std::getline(lines, text);
    untold_ += std::stoll(text);
    while (std::getline(lines, text)) {
      if (!told_.insert(text).second) continue;
      log::warning("left out (", std::ssize(told_) + untold_, " so far): ", text);
    }
  }
  if (untold_ > untold_before) {
    log::warning("left out: ", untold_ - untold_before, " more pieces of data (",
                 std::ssize(told_) + untold_, " so far)");
  }
}

}  // namespace koios
