#pragma once

#include <chrono>
#include <stop_token>

namespace obd {

/// Throws Cancelled as soon as the stop token fires.
void wait_for(std::chrono::milliseconds delay, const std::stop_token& stop);

/// Anything between the two, so that many processes do not come back together. Any thread.
std::chrono::milliseconds random_delay(std::chrono::milliseconds least, std::chrono::milliseconds most);

/// How long to wait after the `failures`-th failure in a row, from 1: `first` and twice as long each time, up
/// to `most`, less a random part of up to a half.
std::chrono::milliseconds backoff_delay(int failures, std::chrono::milliseconds first,
                                        std::chrono::milliseconds most);

}  // namespace obd
