//! `pingeon run` as a service: it starts, shows its health, stops, reloads and comes back.

mod halves;
mod health;
mod kill;
mod reload;
mod restart;
mod running;
mod start;
mod stop;
mod target;
mod web;
