#include "metrics/terminal.hpp"

#include <sys/ioctl.h>
#include <unistd.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <string>

#include "core/error.hpp"

namespace koios {
namespace {

/// Name and parent of a process, from /proc; parent 0 where it cannot be read.
struct Process {
  std::string name;
  int parent = 0;
};

Process read_process(int pid) {
  Process process;
  std::ifstream in(cat("/proc/", pid, "/stat"));
  std::string text;
  std::getline(in, text, '\0');  // "pid (name) state parent ..."; the name may hold anything
  const auto open = text.find('('), close = text.rfind(')');
  if (open == std::string::npos || close == std::string::npos || close + 4 > text.size()) return {};
  process.name = text.substr(open + 1, close - open - 1);
  process.parent = std::atoi(text.c_str() + close + 4);
  return process;
}

/// The mpirun this process runs under, on this machine; 0 if there is none.
int find_mpirun() {
  for (int pid = ::getppid(); pid > 1;) {
    const Process process = read_process(pid);
    for (const char* name : {"mpirun", "mpiexec", "orterun", "prterun"}) {
      if (process.name == name) return pid;
    }
    pid = process.parent;
  }
  return 0;
}

bool stdout_of_is_terminal(int pid) {
  std::error_code error;
  const auto target = std::filesystem::read_symlink(cat("/proc/", pid, "/fd/1"), error).string();
  return target.starts_with("/dev/pts/") || target.starts_with("/dev/tty") ||
         target == "/dev/console";
}

}  // namespace

bool stdout_is_terminal() {
  const char* kind = std::getenv("TERM");
  if (::isatty(STDOUT_FILENO) == 0 || (kind != nullptr && std::string(kind) == "dumb"))
    return false;
  if (std::getenv("OMPI_COMM_WORLD_RANK") == nullptr) return true;
  const int mpirun = find_mpirun();
  return mpirun != 0 && stdout_of_is_terminal(mpirun);
}

int terminal_width() {
  struct winsize size = {};
  if (::ioctl(STDOUT_FILENO, TIOCGWINSZ, &size) != 0 || size.ws_col == 0) return 80;
  return size.ws_col;
}

}  // namespace koios
