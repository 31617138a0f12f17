// What signals ask of a run. SIGUSR1: save and go on. SIGUSR2, SIGTERM, SIGINT: save and stop; a
// second one ends the process at once.
//
// The handlers only note what was asked; the run looks after each step, agrees with the other ranks
// and acts. Until hold_stops() there is nothing to save, and a stop ends the process at once: with
// a line, and with a mark by which the others of the node tell it from a death
// (MpiEnv::mark_end_in).
#pragma once

namespace koios {

class Signals {
 public:
  /// Takes the signals for the whole process: the first thing a program does. One object at a time.
  Signals();
  Signals(const Signals&) = delete;
  Signals& operator=(const Signals&) = delete;
  ~Signals();

  /// From here on a stop waits until the run has seen it.
  void hold_stops();
  /// Whether this rank alone was sent SIGUSR1 since the last call.
  bool take_save();
  /// How often the launcher, which signals all ranks, has sent SIGUSR1. It does not reach all of
  /// them in the same step: the greatest of the ranks' counts says how many saves were asked for.
  int saves_of_launcher() const;
  /// The signal that asks for the end; 0 where none has come.
  int stop() const;
};

/// "SIGTERM"; of the signals above.
const char* signal_name(int signal);

}  // namespace koios
