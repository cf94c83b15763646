# Runs one unit of Redis's own test suite against a server that runs already:
#
#     tclsh redis_suite.tcl UNIT --host 127.0.0.1 --port N …      (in the directory of Redis's sources; the options are the suite's)
#
# It loads the suite's procedures, replaces three of them, and has the suite run the unit. No code of a test is changed. The suite alone
# would end at the first thing that a server does not have; here a failure costs only its own test.
#
# To read it without knowing Tcl: `proc NAME ARGUMENTS BODY` defines a procedure, `[…]` is the result of a command, `{…}` is text as it
# stands, `{*}$list` gives a list's items as arguments. `catch {…} result` runs a script and is 1 if it failed, whose message, or the
# script's result, is in `result` then. `::name` is a global variable. `rename` gives a procedure of the suite another name, by which the
# one that takes its place calls it.

set unit [lindex $argv 0]
set argv [concat [lrange $argv 1 end] --durable]    ;# --durable: a test that fails does not end the suite

# The suite's main program, without its last command, the `if` that starts the suite's own servers.
set file [open tests/test_helper.tcl]
set program [read $file]
close $file
eval [string range $program 0 [string last "\nif {\$::client} {" $program]]


# -- 1. The report ---------------------------------------------------------------------------------
# The suite tells its own server what happens. Here it is told to tests/support/redis_suite.py, as lines of standard output: `testing`,
# `ok`, `err`, `ignore`, `restart` or `done`, and a text in base64, for it may have several lines.

set ::test_server_fd stdout

proc send_data_packet {fd status text {elapsed 0}} {
    puts "$status [binary encode base64 [encoding convertto utf-8 $text]]"
    flush stdout
}


# -- 2. Commands to the server ---------------------------------------------------------------------
# `r` is how the suite sends a command. A test is not to fail by what only prepares it:
#
# - what the suite sends between tests, such as FUNCTION FLUSH, and the settings that a group of tests asks for: an error is let pass;
# - within tests, settings of Redis's insides and what readies its log: the same, and the test hears OK;
# - DEBUG LOADAOF, which reads the log again: a server that refuses it is restarted;
# - the transactions by which the units of streams fill a stream: their commands are sent one by one, if the server refuses MULTI.

set insides {^(config set (stream-node-max-|appendonly yes$)|debug set-active-expire |bgrewriteaof$)}

rename r suite_r
proc r {args} {
    if {[regexp -nocase $::insides $args]} {
        catch {suite_r {*}$args}
        return OK
    }
    if {$::cur_test eq ""} {
        catch {suite_r {*}$args} reply
        return $reply
    }
    if {[string equal -nocase $args "debug loadaof"] && [catch {suite_r debug loadaof}]} {
        send_data_packet stdout restart ""
        gets stdin    ;# a line comes when the server is there again
        reconnect
        return OK
    }
    if {[string match unit/type/stream* $::unit]} {
        return [send_without_transactions $args]
    }
    suite_r {*}$args
}

# ::replies exists from a refused MULTI to its EXEC: what EXEC is to answer.
proc send_without_transactions {words} {
    if {[string equal -nocase $words multi] && [catch {suite_r multi} reply]} {
        suite_r discard
        set ::replies {}
        return OK
    } elseif {[string equal -nocase $words multi]} {
        return $reply
    }
    if {[string equal -nocase $words exec] && [info exists ::replies]} {
        set replies $::replies
        unset ::replies
        return $replies
    }
    set reply [suite_r {*}$words]
    if {[info exists ::replies]} {
        lappend ::replies $reply
    }
    return $reply
}


# -- 3. A test -------------------------------------------------------------------------------------
# The connections that a failed test has left open are closed: they would wait for what the next test sends. The suite keeps the
# connections it has opened in the array ::redis::fd; the procedure ::redis::redisHandle7 is for that with the key 7.

rename test suite_test
proc test {name code {expected undefined} {tags {}}} {
    set failures $::num_failed
    set connections [array names ::redis::fd]
    uplevel 1 [list suite_test $name $code $expected $tags]    ;# in the variables of the caller, which the code of tests uses
    if {$::num_failed > $failures} {
        unset -nocomplain ::replies
        foreach connection [array names ::redis::fd] {
            if {$connection ni $connections} {
                ::redis::redisHandle$connection close
            }
        }
        reconnect
    }
}


execute_test_file $unit
